//! The pod of the chart's DaemonSet, told to a container runtime in the way of the kubelet. What the chart renders is
//! its own tests' business.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_testkit::Lab;
use weft_testkit::runtimes::cri::{
    Capability, ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxSandboxSecurityContext, Mount, NamespaceOption, Number,
    PodSandboxConfig, SecurityProfile, Variable,
};

use super::rendering::{list, named, newest, only, pod};

/// Where the node has what the kubelet would make of volumes that are no folders of the node.
const VOLUMES: &str = "/run/lab/volumes";
/// Where a container finds how to reach the API server: `ca.crt`, `token` and `namespace`.
pub const API_ACCESS: &str = "/run/lab/volumes/api-access";
/// Values of a namespace: the pod's, and the node's.
const OF_POD: i32 = 0;
const OF_NODE: i32 = 2;
/// What the chart says of the node's mount namespace.
const NODES_MOUNTS: &str = "/proc/1/ns/mnt";

/// What the kubelet hides of /proc and /sys, and what it lets be read only, of containers that are not privileged.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container's spec may say here: what is told to the runtime, and what only the kubelet looks at.
const CONTAINER: [&str; 7] = ["name", "image", "command", "args", "env", "securityContext", "volumeMounts"];
const KUBELETS: [&str; 5] =
    ["imagePullPolicy", "resources", "startupProbe", "livenessProbe", "readinessProbe"];
/// What its security context may say.
const CONTEXT: [&str; 8] = [
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "capabilities",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsUser",
    "seccompProfile",
];

/// The pod, as the chart renders it with its usual values.
#[derive(Debug)]
pub struct DaemonSet {
    spec: Value,
    node: String,
    /// What stands in the lab for the node's mount namespace.
    mounts: String,
}

impl DaemonSet {
    /// Renders it with further options of `helm template` for a node of this name, and makes the volumes there.
    pub fn new(lab: &Lab, node: &str, options: &[&str]) -> Result<DaemonSet> {
        let objects = newest("default", options)?;
        let mounts = format!("/proc/{}/ns/mnt", lab.holder_pid());
        let daemonset = DaemonSet { spec: pod(&objects)?.clone(), node: node.into(), mounts };
        for volume in list(&daemonset.spec["volumes"]) {
            make(lab, volume, &only(&objects, "ConfigMap")?["data"])?;
        }
        Ok(daemonset)
    }

    /// The pod's sandbox, beginning with what any pod of this node has.
    pub fn sandbox(&self, mut config: PodSandboxConfig) -> Result<PodSandboxConfig> {
        config.log_directory = "/run/lab".into();
        // On the node's network it has the node's name, too.
        config.hostname.clear();
        let context = LinuxSandboxSecurityContext {
            namespace_options: Some(self.namespaces()?),
            privileged: false,
            seccomp: Some(profile(&self.spec["securityContext"]["seccompProfile"])?),
        };
        config.linux.as_mut().context("a config for Linux")?.security_context = Some(context);
        Ok(config)
    }

    /// One of its containers or init containers.
    pub fn container(&self, name: &str) -> Result<ContainerConfig> {
        let spec = self.find(name)?;
        knows(spec, &[&CONTAINER[..], &KUBELETS].concat())?;
        let mounts = list(&spec["volumeMounts"]).iter().map(|mount| self.mount(mount));
        Ok(ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into() }),
            image: Some(ImageSpec { image: text(&spec["image"])? }),
            command: texts(&spec["command"])?,
            args: self.in_the_lab(texts(&spec["args"])?)?,
            envs: list(&spec["env"]).iter().map(|it| self.variable(it)).collect::<Result<_>>()?,
            mounts: mounts.collect::<Result<_>>()?,
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig { security_context: Some(self.context(spec)?) }),
        })
    }

    /// The command by which the kubelet asks whether a container has started.
    pub fn startup(&self, name: &str) -> Result<Vec<String>> {
        texts(&self.find(name)?["startupProbe"]["exec"]["command"])
    }

    /// The URL by which the kubelet asks whether a container is ready.
    pub fn readiness(&self, name: &str) -> Result<String> {
        let get = &self.find(name)?["readinessProbe"]["httpGet"];
        Ok(format!("http://{}:{}{}", text(&get["host"])?, get["port"], text(&get["path"])?))
    }

    fn find(&self, name: &str) -> Result<&Value> {
        named(&self.spec["containers"], name).or_else(|_| named(&self.spec["initContainers"], name))
    }

    /// The lab has no PID namespace of its own: process 1 is the machine's, whose mounts no daemon under test may see.
    /// The process that holds the lab's namespaces stands for it, the only difference to what the chart says.
    fn in_the_lab(&self, args: Vec<String>) -> Result<Vec<String>> {
        let args: Vec<String> = args
            .into_iter()
            .map(|word| if word == NODES_MOUNTS { self.mounts.clone() } else { word })
            .collect();
        ensure!(!args.iter().any(|word| word.contains("/proc/1/")), "out of the lab: {args:?}");
        Ok(args)
    }

    fn variable(&self, variable: &Value) -> Result<Variable> {
        let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
        let value = match field.as_str() {
            Some("spec.nodeName") => self.node.clone(),
            Some(other) => bail!("{other}: what the kubelet makes of it is not known here"),
            None => text(&variable["value"])?,
        };
        Ok(Variable { key: text(&variable["name"])?, value })
    }

    fn namespaces(&self) -> Result<NamespaceOption> {
        let of = |field: &str| if self.spec[field] == true { OF_NODE } else { OF_POD };
        Ok(NamespaceOption { network: of("hostNetwork"), pid: of("hostPID") })
    }

    fn context(&self, spec: &Value) -> Result<LinuxContainerSecurityContext> {
        let context = &spec["securityContext"];
        knows(context, &CONTEXT)?;
        let number = |field: &str| context[field].as_i64().map(|value| Number { value });
        let apparmor = &context["appArmorProfile"];
        Ok(LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: texts(&context["capabilities"]["add"])?,
                drop_capabilities: texts(&context["capabilities"]["drop"])?,
            }),
            privileged: context["privileged"] == true,
            namespace_options: Some(self.namespaces()?),
            run_as_user: number("runAsUser"),
            run_as_group: number("runAsGroup"),
            readonly_rootfs: context["readOnlyRootFilesystem"] == true,
            no_new_privs: context["allowPrivilegeEscalation"] == false,
            masked_paths: MASKED.map(str::to_owned).to_vec(),
            readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
            seccomp: Some(profile(&context["seccompProfile"])?),
            apparmor: if apparmor.is_null() { None } else { Some(profile(apparmor)?) },
        })
    }

    fn mount(&self, mount: &Value) -> Result<Mount> {
        knows(mount, &["name", "mountPath", "readOnly", "mountPropagation"])?;
        Ok(Mount {
            container_path: text(&mount["mountPath"])?,
            host_path: source(named(&self.spec["volumes"], &text(&mount["name"])?)?)?,
            readonly: mount["readOnly"] == true,
            propagation: match mount["mountPropagation"].as_str() {
                None | Some("None") => 0,
                Some("HostToContainer") => 1,
                Some(other) => bail!("{other}: the API server wants a privileged container for it"),
            },
        })
    }
}

/// Where a volume is on the node.
fn source(volume: &Value) -> Result<String> {
    match volume["hostPath"]["path"].as_str() {
        Some(path) => Ok(path.to_owned()),
        None => Ok(format!("{VOLUMES}/{}", text(&volume["name"])?)),
    }
}

/// Makes a volume, with the files of the one ConfigMap that there is. A token for the API server is the test's business
/// ([`API_ACCESS`]).
fn make(lab: &Lab, volume: &Value, files: &Value) -> Result<()> {
    let path = source(volume)?;
    let must = |command: &[&str]| lab.node().exec(command)?.ok().map(drop);
    match volume["hostPath"]["type"].as_str() {
        Some("CharDevice") => return must(&["test", "-c", &path]),
        Some("DirectoryOrCreate") | None => must(&["mkdir", "-p", &path])?,
        Some(other) => bail!("{path}: {other}"),
    };
    if !volume["configMap"].is_null() {
        for (name, content) in files.as_object().context("files")? {
            let file = lab.path(&format!("{path}/{name}"));
            fs::write(&file, text(content)?).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

/// Wants nothing that would not be told to the runtime.
fn knows(object: &Value, known: &[&str]) -> Result<()> {
    let mut keys = object.as_object().context("an object")?.keys();
    match keys.find(|key| !known.contains(&key.as_str())) {
        Some(key) => bail!("{key}: what the kubelet makes of it is not known here"),
        None => Ok(()),
    }
}

fn profile(profile: &Value) -> Result<SecurityProfile> {
    match profile["type"].as_str() {
        Some("RuntimeDefault") => Ok(SecurityProfile { profile_type: 0 }),
        Some("Unconfined") => Ok(SecurityProfile { profile_type: 1 }),
        other => bail!("a profile: {other:?}"),
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("a text expected: {value}"))?.to_owned())
}

fn texts(values: &Value) -> Result<Vec<String>> {
    list(values).iter().map(text).collect()
}
