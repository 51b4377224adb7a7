//! What both sides share: a TLS connection that eats and makes flights instead of a stream.

use std::fmt;
use std::io::{Read, Write};

use rustls::{Connection, ProtocolVersion};
use xswan_ike_crypto::Secret;
use zeroize::Zeroizing;

use super::MAX_MESSAGE_BYTES;
use super::fragment::{Outgoing, Reassembly, Received};
use crate::packet::TYPE_TLS;
use crate::reason::Reason;

/// Octets of the MSK (RFC 5216 §2.3, RFC 9190 §2.3).
const MSK_BYTES: usize = 64;
/// MSK and EMSK: TLS 1.3 binds the length, so both are exported although one is used.
const KEY_MATERIAL_BYTES: usize = 128;
/// Exporter label of RFC 5216, without context; its prefix is that of the PRF named there.
const LABEL_12: &[u8] = b"client EAP encryption";
/// Exporter label of RFC 9190; the context is the EAP type.
const LABEL_13: &[u8] = b"EXPORTER_EAP_TLS_Key_Material";

/// TLS and fragments.
pub(super) struct Session {
    connection: Connection,
    incoming: Reassembly,
    outgoing: Outgoing,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// A packet, and what the TLS stack made of it.
pub(super) enum Event {
    /// Begin.
    Start,
    /// The other side has our last packet.
    Acknowledged,
    /// A fragment to be acknowledged.
    Fragment,
    /// A flight was taken in; what is to be sent follows from the state of the connection.
    Flight,
    /// A flight was refused; an alert may be waiting to be sent.
    Refused(Reason),
}

impl Session {
    pub(super) fn new(connection: impl Into<Connection>, fragment_bytes: usize) -> Self {
        Self {
            connection: connection.into(),
            incoming: Reassembly::default(),
            outgoing: Outgoing::new(fragment_bytes),
        }
    }

    /// Takes the type-data of a packet. While fragments of ours are on their way, only an
    /// acknowledgement is in order.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<Event, Reason> {
        let received = self.incoming.receive(data)?;
        if !self.outgoing.is_empty() && received != Received::Acknowledgement {
            return Err(Reason::Malformed("EAP-TLS data instead of an acknowledgement"));
        }
        Ok(match received {
            Received::Start if self.incoming.is_partial() => {
                return Err(Reason::Malformed("EAP-TLS start within a message"));
            }
            Received::Start => Event::Start,
            Received::Acknowledgement => Event::Acknowledged,
            Received::Fragment => Event::Fragment,
            Received::Message(flight) => match self.feed(&flight) {
                Ok(()) => Event::Flight,
                Err(reason) => Event::Refused(reason),
            },
        })
    }

    /// All of `flight` through the TLS stack.
    fn feed(&mut self, mut flight: &[u8]) -> Result<(), Reason> {
        while !flight.is_empty() {
            let before = flight.len();
            self.connection.read_tls(&mut flight).map_err(|error| tls(&error))?;
            self.connection.process_new_packets().map_err(|error| tls(&error))?;
            if flight.len() == before {
                return Err(Reason::Malformed("TLS data after its end"));
            }
        }
        Ok(())
    }

    /// Type-data of the next packet: a fragment on its way, or what TLS has to say now.
    pub(super) fn next_packet(&mut self) -> Result<Option<Vec<u8>>, Reason> {
        if self.outgoing.is_empty() {
            let mut flight = Vec::new();
            while self.connection.wants_write() {
                if self.connection.write_tls(&mut flight).map_err(|error| tls(&error))? == 0 {
                    break;
                }
            }
            if flight.len() > MAX_MESSAGE_BYTES {
                return Err(Reason::TooLarge);
            }
            self.outgoing.load(flight);
        }
        Ok(self.outgoing.next_fragment())
    }

    /// Whether the handshake is complete and the version of TLS is 1.3; `None` if it is not
    /// complete.
    pub(super) fn established(&self) -> Option<bool> {
        if self.connection.is_handshaking() {
            return None;
        }
        Some(self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3))
    }

    /// Whether everything TLS had to say has been sent.
    pub(super) fn all_sent(&self) -> bool {
        self.outgoing.is_empty() && !self.connection.wants_write()
    }

    /// Queues application data.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), Reason> {
        self.connection.writer().write_all(data).map_err(|error| tls(&error))
    }

    /// Application data received since the last call. More than `N` octets are an error.
    pub(super) fn read<const N: usize>(&mut self) -> Result<Vec<u8>, Reason> {
        let mut taken = Vec::new();
        let mut octet = [0];
        // Ends with `WouldBlock` when there is no more, or with a close.
        while let Ok(1) = self.connection.reader().read(&mut octet) {
            if taken.len() == N {
                return Err(Reason::Malformed("data inside EAP-TLS"));
            }
            taken.extend_from_slice(&octet);
        }
        Ok(taken)
    }

    /// The other side's certificates as presented, end entity first; never empty.
    pub(super) fn peer_chain(&self) -> Result<Vec<Vec<u8>>, Reason> {
        match self.connection.peer_certificates() {
            Some(chain) if !chain.is_empty() => {
                Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
            }
            Some(_) | None => Err(Reason::Tls("no certificate".to_owned())),
        }
    }

    /// MSK, after the handshake.
    pub(super) fn msk(&self) -> Result<Secret, Reason> {
        let (label, context) = match self.established() {
            Some(true) => (LABEL_13, Some(&[TYPE_TLS][..])),
            Some(false) => (LABEL_12, None),
            None => return Err(Reason::Tls("handshake incomplete".to_owned())),
        };
        let mut material = Zeroizing::new([0; KEY_MATERIAL_BYTES]);
        self.connection
            .export_keying_material(&mut material[..], label, context)
            .map_err(|error| tls(&error))?;
        Ok(Secret::from_slice(material.get(..MSK_BYTES).unwrap_or_default()))
    }
}

fn tls(error: &dyn std::error::Error) -> Reason {
    Reason::Tls(error.to_string())
}
