//! The Unix socket: bound so that nobody else can ever connect, and the check of who did.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::error::{Error, Result};

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Socket {
    listener: StdListener,
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Binds `path` with mode 0600.
    ///
    /// The socket is bound in a folder that only this user enters and moved from there, so that there is no
    /// moment in which it has the permissions that the umask leaves.
    pub fn bind(path: &Path) -> Result<Socket> {
        let failed = |operation| move |source| Error::Socket { path: path.to_owned(), operation, source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed("given a folder"))?;
        clear(path)?;
        let private = folder.join(format!(".weftd-{}", std::process::id()));
        let bound = bind_in(&private, path);
        // The folder is empty by now, or something failed and that error is the one to tell.
        let _ = fs::remove_dir_all(&private);
        let (listener, inode) = bound.map_err(failed("bound"))?;
        Ok(Socket { listener, path: path.to_owned(), inode })
    }

    /// The listener, for the runtime that calls this.
    pub fn listener(&self) -> Result<UnixListener> {
        let listener = self.listener.try_clone().and_then(UnixListener::from_std);
        listener.map_err(|source| Error::Socket { path: self.path.clone(), operation: "listened on", source })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if ours {
            // A socket that stays behind is replaced by the next daemon.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_in(private: &Path, path: &Path) -> io::Result<(StdListener, u64)> {
    DirBuilder::new().recursive(true).mode(0o700).create(private)?;
    let place = private.join("api");
    let listener = StdListener::bind(&place)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&place, Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(&place)?.ino();
    fs::rename(&place, path)?;
    Ok((listener, inode))
}

/// Makes sure that the path is free: a socket on which nobody answers is removed.
fn clear(path: &Path) -> Result<()> {
    let failed = |source| Error::Socket { path: path.to_owned(), operation: "replaced", source };
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(failed(io::Error::other("a file that is no socket is there")));
    }
    match StdStream::connect(path) {
        Ok(_) => Err(Error::SocketTaken { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The user that this process runs as.
pub(super) fn own_uid() -> Result<u32> {
    let path = Path::new("/proc/self");
    let metadata = fs::metadata(path);
    metadata.map(|metadata| metadata.uid()).map_err(|source| Error::File {
        path: path.to_owned(),
        operation: "read",
        source,
    })
}

/// Lets root and the daemon's own user in.
pub(super) fn check_peer(
    own: u32,
) -> impl Fn(Request<()>) -> std::result::Result<Request<()>, Status> + Clone + Send + Sync {
    move |request| {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        match peer.map(|peer| peer.uid()) {
            Some(uid) if uid == 0 || uid == own => Ok(request),
            uid => {
                tracing::warn!(?uid, pid = ?peer.and_then(|peer| peer.pid()), "API request refused");
                let description = "only root and the daemon's own user may use this API";
                Err(Status::permission_denied(description))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_of_unknown_user_is_refused() {
        let status = check_peer(0)(Request::new(())).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
    }

    #[tokio::test]
    async fn only_root_and_the_own_user_are_let_in() {
        let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
        let peer_cred = Some(ours.peer_cred().unwrap());
        let request = || {
            let mut request = Request::new(());
            request.extensions_mut().insert(UdsConnectInfo { peer_addr: None, peer_cred });
            request
        };
        let uid = own_uid().unwrap();
        assert_eq!(ours.peer_cred().unwrap().uid(), uid);
        assert!(check_peer(uid)(request()).is_ok());
        assert_eq!(check_peer(uid + 1)(request()).is_ok(), uid == 0);
    }
}
