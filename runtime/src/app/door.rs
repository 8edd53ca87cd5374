//! Door: a port that is taken at once and listened on later. Until then the kernel refuses connections, rather
//! than complete them for a daemon that is still reading its journal.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1024;

pub struct Door {
    socket: TcpSocket,
    /// The key of the configuration that names it.
    key: &'static str,
    wanted: SocketAddr,
}

impl Door {
    /// # Errors
    /// Where the port is taken, or may not be; it says what to change.
    pub fn bind(address: SocketAddr, key: &'static str) -> Result<Door, String> {
        let made = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let bound = made.and_then(|socket| {
            // Connections of the daemon before this one may linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        });
        let socket = bound.map_err(|e| in_words(address, key, &e))?;
        Ok(Door { socket, key, wanted: address })
    }

    /// With the port that was given where 0 was asked for.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.socket.local_addr().map_err(|e| in_words(self.wanted, self.key, &e))
    }

    /// # Errors
    /// Where another process listens on the port by now.
    pub fn listen(self) -> Result<TcpListener, String> {
        self.socket.listen(BACKLOG).map_err(|e| in_words(self.wanted, self.key, &e))
    }
}

fn in_words(address: SocketAddr, key: &str, error: &std::io::Error) -> String {
    format!("cannot listen on {address}: {error}; change `{key}`, or end what uses the port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bound_port_refuses_until_it_is_listened_on() {
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), "server.listen").unwrap();
        let address = door.address().unwrap();
        let early = tokio::net::TcpStream::connect(address).await;
        assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        let _listener = door.listen().unwrap();
        tokio::net::TcpStream::connect(address).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_says_what_to_change() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let why = Door::bind(address, "admin.listen").and_then(Door::listen).unwrap_err();
        assert!(why.contains("change `admin.listen`"), "{why}");
    }
}
