//! What a client asks of the server, in the first bytes of its connection: what to transfer, and where in it to move.

/// What is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// From the client, as fast as it goes. The server answers how much it was.
    Upload,
    /// To the client, likewise.
    Download,
    /// To the server and back, both directions at once.
    Echo,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Upload, Self::Download, Self::Echo];
}

/// In which order the server moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// It doesn't.
    Never,
    /// As the product does.
    Right,
    /// The map first and the socket later, which breaks connections: between the two the kernel knows of none.
    Naive,
    /// As the product does, and then the entry of the map is lost.
    Evicted,
    /// As the product does, and after the end it is told when the map has forgotten the connection.
    Watched,
}

impl Order {
    const ALL: [Self; 5] = [
        Self::Never,
        Self::Right,
        Self::Naive,
        Self::Evicted,
        Self::Watched,
    ];
}

/// One transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub kind: Kind,
    /// How the server moves.
    pub order: Order,
    /// Whether the server sends the first FIN, else the client.
    pub server_closes: bool,
    /// Bytes in one direction.
    pub length: u32,
    /// The server moves once it has dealt with so many of them.
    pub move_at: u32,
}

impl Request {
    /// Bytes of a request.
    pub const BYTES: usize = 11;

    /// As sent.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (head, numbers) = bytes.split_at_mut(3);
        head.copy_from_slice(&[
            self.kind as u8,
            self.order as u8,
            u8::from(self.server_closes),
        ]);
        let (length, move_at) = numbers.split_at_mut(4);
        length.copy_from_slice(&self.length.to_be_bytes());
        move_at.copy_from_slice(&self.move_at.to_be_bytes());
        bytes
    }

    /// As received; `None` if nobody sends such.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (&[kind, order, server_closes], numbers) = bytes.split_first_chunk()?;
        let (length, numbers) = numbers.split_first_chunk()?;
        let (move_at, _) = numbers.split_first_chunk()?;
        Some(Self {
            kind: *Kind::ALL.get(usize::from(kind))?,
            order: *Order::ALL.get(usize::from(order))?,
            server_closes: server_closes == 1,
            length: u32::from_be_bytes(*length),
            move_at: u32::from_be_bytes(*move_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives() {
        for kind in Kind::ALL {
            for order in Order::ALL {
                for server_closes in [false, true] {
                    let request = Request {
                        kind,
                        order,
                        server_closes,
                        length: 0x0102_0304,
                        move_at: 0x0a0b_0c0d,
                    };
                    assert_eq!(Request::decode(&request.encode()), Some(request));
                }
            }
        }
        assert_eq!(Request::decode(&[9; Request::BYTES]), None);
    }
}
