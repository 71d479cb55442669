//! What the queue of detachments promises.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A folder of its own for a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("weft-queue{}", temporary_name()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn queue(&self) -> DetachQueue {
        DetachQueue::new(self.0.join("cni/detach"))
    }

    fn files(&self) -> usize {
        fs::read_dir(self.0.join("cni/detach")).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key(container_id: &str, interface: &str) -> AttachmentKey {
    AttachmentKey { container_id: container_id.into(), interface: interface.into() }
}

fn at(seconds: u64, key: AttachmentKey) -> QueuedDetach {
    QueuedDetach { key, time: UNIX_EPOCH + Duration::from_secs(seconds) }
}

#[test]
fn a_request_is_a_file_that_people_can_read() {
    let folder = Folder::new();
    folder.queue().add(&at(1_700_000_000, key("c1", "eth0"))).unwrap();
    let path = folder.0.join("cni/detach/c1@eth0.json");
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\"containerId\":\"c1\",\"interface\":\"eth0\",\"time\":\"2023-11-14T22:13:20Z\"}\n"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
}

#[test]
fn requests_come_back_oldest_first_and_repeats_do_not_add_up() {
    let folder = Folder::new();
    let queue = folder.queue();
    let (first, second) = (at(10, key("b", "eth0")), at(20, key("a", "eth0")));
    queue.add(&at(5, second.key.clone())).unwrap();
    queue.add(&second).unwrap();
    queue.add(&first).unwrap();
    let queued = queue.list().unwrap();
    assert_eq!(queued.requests, [first.clone(), second]);
    assert!(queued.unreadable.is_empty());
    assert!(queue.holds(&first.key));
    assert!(queue.remove(&first.key).unwrap());
    assert!(!queue.remove(&first.key).unwrap());
    assert!(!queue.holds(&first.key));
    assert_eq!(folder.files(), 1);
}

#[test]
fn a_queue_without_a_folder_is_empty() {
    let queue = DetachQueue::new("/nonexistent/detach");
    assert!(queue.list().unwrap().requests.is_empty());
    assert!(!queue.holds(&key("c", "eth0")));
    assert!(!queue.remove(&key("c", "eth0")).unwrap());
}

#[test]
fn files_that_are_no_requests_are_told_apart_and_left_alone() {
    let folder = Folder::new();
    let queue = folder.queue();
    queue.add(&at(10, key("c", "eth0"))).unwrap();
    let inside = |name: &str| folder.0.join("cni/detach").join(name);
    fs::write(inside("cut@eth0.json"), "{\"containerId\":\"cut\"").unwrap();
    fs::write(inside("zero@eth0.json"), [0; 64]).unwrap();
    fs::copy(inside("c@eth0.json"), inside("other@eth0.json")).unwrap();
    fs::write(inside(".new-1-1-1"), "{").unwrap();
    let queued = queue.list().unwrap();
    assert_eq!(queued.requests.len(), 1);
    let mut wrong: Vec<_> = queued.unreadable.iter().map(|(path, _)| path.file_name().unwrap()).collect();
    wrong.sort();
    assert_eq!(wrong, ["cut@eth0.json", "other@eth0.json", "zero@eth0.json"]);
    assert_eq!(folder.files(), 5);
}

#[test]
fn a_temporary_file_of_a_dead_writer_goes_with_time() {
    let folder = Folder::new();
    let queue = folder.queue();
    queue.add(&at(10, key("c", "eth0"))).unwrap();
    let path = folder.0.join("cni/detach/.new-1-1-1");
    let file = File::create(&path).unwrap();
    file.set_modified(SystemTime::now() - ABANDONED - Duration::from_secs(1)).unwrap();
    queue.list().unwrap();
    assert!(!path.exists());
}

#[test]
fn the_longest_ids_have_names_that_fit_and_differ() {
    let folder = Folder::new();
    let queue = folder.queue();
    let long = |last: char| key(&("x".repeat(252) + &last.to_string()), "abcdefghijklmno");
    for last in ['1', '2'] {
        queue.add(&at(1, long(last))).unwrap();
    }
    assert_eq!(queue.list().unwrap().requests.len(), 2);
    assert!(queue.remove(&long('1')).unwrap());
    assert_eq!(queue.list().unwrap().requests, [at(1, long('2'))]);
}

#[test]
fn the_checksum_is_fnv_1a() {
    // Test vectors of draft-eastlake-fnv: "", "a" and "foobar".
    assert_eq!(checksum(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(checksum(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(checksum(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let error = DetachQueue::new("/proc/none/detach").add(&at(1, key("c", "eth0"))).unwrap_err().to_string();
    assert!(error.starts_with("cannot make /proc/none: "), "{error}");
}
