//! Listening sockets of the kernel's TCP, which go from daemon to daemon: closing one would reset the connections in its
//! accept queue, and those whose handshake is under way.

use std::io;
use std::net::{SocketAddr, TcpListener};

use lb_transport::kernel;

/// What an earlier daemon passed on, and what this one has to pass on.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    inherited: Vec<(SocketAddr, TcpListener)>,
    kept: Vec<(SocketAddr, TcpListener)>,
}

impl Listeners {
    /// Begins with what an earlier daemon passed on.
    pub(crate) fn new(inherited: Vec<(SocketAddr, TcpListener)>) -> Self {
        Self {
            inherited,
            kept: Vec::new(),
        }
    }

    /// Sockets that listen on an address, one for each worker at least; those that were passed on are all among them.
    pub(crate) fn deal(
        &mut self,
        address: SocketAddr,
        workers: usize,
    ) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut sockets: Vec<_> = self
            .inherited
            .extract_if(.., |(of, _)| *of == address)
            .map(|(_, socket)| socket)
            .collect();
        while sockets.len() < workers {
            sockets.push(kernel::open(address)?);
        }
        let mut hands: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (place, socket) in sockets.into_iter().enumerate() {
            self.kept.push((address, socket.try_clone()?));
            if let Some(hand) = hands.get_mut(place % workers) {
                hand.push(socket);
            }
        }
        Ok(hands)
    }

    /// What the next daemon gets.
    pub(crate) fn kept(&self) -> &[(SocketAddr, TcpListener)] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn sockets_are_passed_on_with_the_connections_that_wait_in_them() {
        let first = kernel::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        let inherited = (0..2).map(|_| kernel::open(address).unwrap());
        let inherited: Vec<_> = std::iter::once(first)
            .chain(inherited)
            .map(|socket| (address, socket))
            .collect();

        // Fewer workers than sockets: one of them gets two.
        let mut listeners = Listeners::new(inherited);
        let hands = listeners.deal(address, 2).unwrap();
        assert_eq!(hands.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(listeners.kept().len(), 3);
        let mut accepted = hands
            .iter()
            .flatten()
            .filter_map(|socket| socket.accept().ok());
        let (_stream, peer) = accepted.next().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());

        // More: the others get new ones.
        let hands = listeners.deal(address, 2).unwrap();
        assert_eq!(hands.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }
}
