//! A thread that has entered the probe's namespace: there it answers others, and asks for us.
//!
//! A thread keeps to the namespace that it entered, and with it all sockets that it opens. So whatever is to come from
//! a pod is run by this one, on a runtime of its own that has no other threads.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use std::{fs, io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::echo;

/// How often is looked whether the namespace is still the same one.
const LOOK: Duration = Duration::from_secs(2);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way to the thread. It ends when all of these are dropped.
#[derive(Debug, Clone)]
pub struct Pod {
    work: mpsc::Sender<Work>,
    state: watch::Receiver<Result<(), String>>,
}

impl Pod {
    /// Starts the thread, which enters the namespace as soon as there is one at `path`.
    pub fn start(path: PathBuf) -> io::Result<Pod> {
        let (work, incoming) = mpsc::channel(16);
        let (told, state) = watch::channel(Err(format!("{} has not been entered yet", path.display())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let live = move || runtime.block_on(live(&path, incoming, &told));
        thread::Builder::new().name("probe".into()).spawn(live)?;
        Ok(Pod { work, state })
    }

    /// Waits until the thread is in the namespace, which it may be about to enter. Errors: why it is not there.
    pub async fn wait(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        // Too late, or the thread is gone: the state says why.
        let _ = timeout(LOOK + LOOK / 2, state.wait_for(Result::is_ok)).await;
        self.state.borrow().clone()
    }

    /// Runs something in the probe's namespace. Errors: why the thread is not there. What is dropped before it ends is
    /// not run further.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        self.state.borrow().clone()?;
        let (mut sender, receiver) = oneshot::channel();
        let work = async move {
            tokio::select! {
                result = future => drop(sender.send(result)),
                () = sender.closed() => {}
            }
        };
        let gone = || "the probe's namespace went away".to_owned();
        self.work.send(Box::pin(work)).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())
    }
}

async fn live(path: &Path, mut incoming: mpsc::Receiver<Work>, told: &watch::Sender<Result<(), String>>) {
    while !incoming.is_closed() {
        let why = match enter(path) {
            Ok(inode) => {
                told.send_modify(|state| *state = Ok(()));
                tracing::debug!(path = %path.display(), "the probe answers");
                stay(path, inode, &mut incoming).await
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!("cannot enter {}: {error}; the agent needs the capability SYS_ADMIN", path.display())
            }
            Err(error) => format!("cannot enter {}: {error}", path.display()),
        };
        if told.send_replace(Err(why.clone())).err().as_ref() != Some(&why) {
            tracing::debug!("the probe does not answer: {why}");
        }
        sleep(LOOK).await;
    }
}

fn enter(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(file.metadata()?.ino())
}

/// Answers and works until the namespace is another one. Gives why it ended.
async fn stay(path: &Path, inode: u64, incoming: &mut mpsc::Receiver<Work>) -> String {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let answers = echo::serve();
    let mut answers = std::pin::pin!(answers);
    let mut served = true;
    loop {
        tokio::select! {
            ended = &mut answers, if served => {
                served = false;
                // Others are told by the kernel that nobody listens; asking goes on.
                tracing::warn!(?ended, "the probe does not answer any more");
            }
            work = incoming.recv() => match work {
                Some(work) => drop(tokio::spawn(work)),
                None => return "the agent is stopping".into(),
            },
            _ = look.tick() => match fs::metadata(path) {
                Ok(now) if now.ino() == inode => {}
                _ => return format!("{} is another namespace than before", path.display()),
            }
        }
    }
}
