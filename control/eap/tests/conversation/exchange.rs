//! Runs client against server, packet by packet, with somebody in between.

use xswan_eap::{
    Client, ClientConfig, ClientStep, Password, Peer, Reason, Server, ServerConfig, ServerHost,
    ServerMethod, ServerStep,
};
use xswan_ike_crypto::{Random, Secret, sha256};

/// The name under which everybody knows the server.
pub const GATEWAY: &str = "gateway.example.org";

/// The server's surroundings: one user, and octets that repeat from run to run.
pub struct Host {
    users: Vec<(String, String)>,
    counter: u64,
}

impl Host {
    pub fn new(users: &[(&str, &str)]) -> Self {
        let own = |(user, password): &(&str, &str)| ((*user).to_owned(), (*password).to_owned());
        Self { users: users.iter().map(own).collect(), counter: 0 }
    }
}

impl Random for Host {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.counter += 1;
            let block = sha256(&[&self.counter.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

impl ServerHost for Host {
    fn password(&self, user: &str) -> Option<Password> {
        let (_, password) = self.users.iter().find(|(name, _)| name == user)?;
        Some(Password::from_text(password.as_bytes()))
    }
}

/// How both ended.
#[derive(Debug)]
pub struct Outcome {
    pub server: Result<(Secret, Peer), Reason>,
    pub client: Result<(Secret, Vec<Vec<u8>>), Reason>,
    /// Every packet, in order; the server's are at even places.
    pub packets: Vec<Vec<u8>>,
}

impl Outcome {
    /// The key, which must be the same on both sides, and who the peer is.
    pub fn agreed(&self) -> (&Secret, &Peer) {
        let (server, peer) = self.server.as_ref().unwrap();
        let (client, _) = self.client.as_ref().unwrap();
        assert_eq!(server, client);
        assert_eq!(server.len(), 64);
        (server, peer)
    }

    /// Why both failed.
    pub fn refused(&self) -> (&Reason, &Reason) {
        (self.server.as_ref().unwrap_err(), self.client.as_ref().unwrap_err())
    }
}

/// Lets them talk until both have ended. Each packet is delivered twice, the second time as a
/// repetition that must be answered as the first was.
pub fn converse(server: ServerConfig, client: ClientConfig, host: &mut Host) -> Outcome {
    let mut server = Server::new(server);
    let mut client = Client::new(client).unwrap();
    let mut packets = vec![server.start(host).unwrap()];
    let mut server_ended = None;
    loop {
        let request = packets.last().unwrap().clone();
        let response = match client.handle(&request, host) {
            ClientStep::Send(packet) => packet,
            ClientStep::Success { msk, chain } => {
                let server = server_ended.unwrap_or(Err(Reason::Finished));
                return Outcome { server, client: Ok((msk, chain)), packets };
            }
            ClientStep::Failure { reason } => {
                let server = server_ended.unwrap_or(Err(Reason::PeerFailed));
                return Outcome { server, client: Err(reason), packets };
            }
        };
        assert!(server_ended.is_none(), "the client speaks after the end");
        match client.handle(&request, host) {
            ClientStep::Send(again) => assert_eq!(again, response),
            other @ (ClientStep::Success { .. } | ClientStep::Failure { .. }) => {
                panic!("{other:?}")
            }
        }
        packets.push(response.clone());
        let next = match server.handle(&response, host) {
            ServerStep::Send(packet) => packet,
            ServerStep::Success { packet, msk, peer } => {
                server_ended = Some(Ok((msk, peer)));
                packet
            }
            ServerStep::Failure { packet, reason } => {
                server_ended = Some(Err(reason));
                packet
            }
        };
        match server.handle(&response, host) {
            ServerStep::Send(again) => assert_eq!(again, next),
            other @ (ServerStep::Success { .. } | ServerStep::Failure { .. }) => {
                panic!("{other:?}")
            }
        }
        packets.push(next);
    }
}

/// MSCHAPv2, asking for the identity or not.
pub fn password_server(ask_identity: bool) -> ServerConfig {
    ServerConfig {
        method: ServerMethod::MschapV2 { server_name: GATEWAY.to_owned() },
        ask_identity,
        identity: b"idi@example.org".to_vec(),
    }
}

/// A client with a password and no certificate.
pub fn password_client(user: &str, password: &str) -> ClientConfig {
    ClientConfig {
        identity: user.as_bytes().to_vec(),
        password: Some(Password::from_text(password.as_bytes())),
        tls: None,
    }
}
