//! The admin socket: a file that only the user of the server reaches, and who is at its other end.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixStream};

/// The socket's name within the data folder.
pub const SOCKET: &str = "admin.sock";

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The user id, as the kernel knows it; none where it does not say.
    pub uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let uid = stream.io().peer_cred().ok().map(|peer| peer.uid());
        Self { uid }
    }
}

/// The socket, bound and not yet served.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why the socket is not there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another server answers there.
    #[error("another server answers on `{}`", .0.display())]
    Served(PathBuf),
    /// The system does not give it.
    #[error("the socket `{}` cannot be made", .path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl AdminSocket {
    /// Makes `admin.sock` in the data folder, mode 0600. One that nobody answers on any more is
    /// replaced.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(data: &Path) -> Result<Self, BindError> {
        let path = data.join(SOCKET);
        if UnixStream::connect(&path).await.is_ok() {
            return Err(BindError::Served(path));
        }
        let failed = |source| BindError::System {
            path: path.clone(),
            source,
        };
        let listener = make(data, &path).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Serves it until `stop`, and takes it away then.
    ///
    /// # Errors
    /// What the system says when it stops answering.
    pub async fn serve(
        self,
        router: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(self.listener, service)
            .with_graceful_shutdown(stop)
            .await;
        // Whoever comes next finds nobody there either way.
        let _best_effort = std::fs::remove_file(&self.path);
        served
    }
}

/// Binds within a folder that nobody else may enter and moves the socket out when its mode is set,
/// so that there is no moment in which anyone else could connect.
fn make(data: &Path, path: &Path) -> io::Result<UnixListener> {
    let folder = data.join(".admin");
    let cradle = folder.join("s");
    clear(&folder, &cradle)?;
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let listener = UnixListener::bind(&cradle)?;
    std::fs::set_permissions(&cradle, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&cradle, path)?;
    std::fs::remove_dir(&folder)?;
    Ok(listener)
}

/// Takes away what a start that was cut short has left.
fn clear(folder: &Path, cradle: &Path) -> io::Result<()> {
    let gone = |removed: io::Result<()>| match removed {
        Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
        Err(_) | Ok(()) => Ok(()),
    };
    gone(std::fs::remove_file(cradle))?;
    gone(std::fs::remove_dir(folder))
}
