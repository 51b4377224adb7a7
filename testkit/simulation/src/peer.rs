//! A peer without a state machine: it has the keys, and says whatever a test makes it say.
//!
//! ```text
//! Dial ── IKE_SA_INIT ──▶ Gateway        Peer::answering ◀── IKE_SA_INIT ── Gateway
//!   └─ finish ──▶ Peer                              └──▶ Peer
//! Peer ── any payloads, any octets, any Message ID, sealed with the right keys ──▶ Gateway
//! ```

use crate::{Gateway, Seeded, policies};
use std::net::SocketAddr;
use std::sync::Arc;
use xswan_ike_crypto::{
    Group, IkeKeys, KeyExchange, Random, SkCipher, Skeyseed, Suite, respond, shared_key_auth,
};
use xswan_ikev2::policy::{Configuration, ConnectionPolicy};
use xswan_ikev2::wire::{
    self, Authentication, ExchangeType, Flags, Header, Identification, Message, Nonce, NotifyType,
    Payload, PayloadType, Proposal, Protection, SecurityAssociation, TrafficSelectors, Transform,
    VendorId, emit_chain, parse_chain, parse_datagram, protected_prefix, protocol,
};
use xswan_ikev2::{Input, Millis, Target};

/// Octets of Vendor ID in a request: as much as an answer may add to it.
const VENDOR_LEN: usize = 160;
/// Octets of nonces.
const NONCE_LEN: usize = 32;

/// A peer that has sent IKE_SA_INIT.
#[derive(Debug)]
pub struct Dial {
    /// The request.
    pub octets: Vec<u8>,
    /// Which gateway it plays.
    number: usize,
    key_exchange: KeyExchange,
    spi_i: u64,
    ni: Vec<u8>,
    random: Seeded,
}

/// A peer with keys.
#[derive(Debug)]
pub struct Peer {
    /// Whether it sent IKE_SA_INIT.
    pub initiator: bool,
    /// SPIs.
    pub spi_i: u64,
    /// SPIs.
    pub spi_r: u64,
    /// Which gateway it plays.
    pub number: usize,
    suite: Suite,
    keys: IkeKeys,
    outbound: SkCipher,
    inbound: SkCipher,
    random: Seeded,
    /// What its AUTH covers: its own first message, and the other side's nonce.
    own_init: Vec<u8>,
    other_nonce: Vec<u8>,
}

fn suite() -> Suite {
    Suite::from_transform_ids((20, Some(128)), None, 5, 31).expect("a suite")
}

/// The endpoint of a gateway.
#[must_use]
pub fn endpoint(number: usize) -> SocketAddr {
    SocketAddr::new(policies::ADDRESSES[number.min(1)], 500)
}

fn init_payloads(method_public: Vec<u8>, nonce: &[u8]) -> Vec<Payload> {
    let transforms = policies::ike_proposal().transforms;
    let proposal = Proposal { number: 1, protocol: protocol::IKE, spi: Vec::new(), transforms };
    vec![
        Payload::Sa(SecurityAssociation { proposals: vec![proposal] }),
        Payload::Ke(wire::KeyExchange { method: 31, data: method_public }),
        Payload::Nonce(Nonce(nonce.to_vec())),
    ]
}

fn octets(random: &mut Seeded, len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    random.fill(&mut octets);
    octets
}

fn ke_and_nonce(payloads: &[Payload]) -> Option<(&[u8], &[u8])> {
    let ke = payloads.iter().find_map(|payload| match payload {
        Payload::Ke(ke) if ke.method == 31 => Some(ke.data.as_slice()),
        _ => None,
    })?;
    let nonce = payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.0.as_slice()),
        _ => None,
    })?;
    Some((ke, nonce))
}

impl Dial {
    /// The first message of the peer that plays a gateway. `extra` goes before the rest.
    ///
    /// # Panics
    /// Never: X25519 is there.
    #[must_use]
    pub fn new(number: usize, seed: u64, extra: &[Payload]) -> Self {
        let mut random = Seeded::new(seed ^ 0x7065_6572);
        let (key_exchange, public) =
            KeyExchange::generate(Group::Curve25519, &mut random).expect("X25519");
        let spi_i = random.next() | 1;
        let ni = octets(&mut random, NONCE_LEN);
        let mut payloads = extra.to_vec();
        payloads.extend(init_payloads(public, &ni));
        payloads.push(Payload::Vendor(VendorId(vec![7; VENDOR_LEN])));
        let flags = Flags { initiator: true, version: false, response: false };
        let header = Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, flags, 0);
        let octets = Message::new(header, payloads).emit().expect("a request");
        Self { octets, number, key_exchange, spi_i, ni, random }
    }

    /// The same with other payloads before the rest: with a cookie.
    #[must_use]
    pub fn again(mut self, extra: &[Payload]) -> Self {
        let mut message = Message::parse(&self.octets).expect("our request");
        message.payloads.splice(0..0, extra.iter().cloned());
        self.octets = message.emit().expect("a request");
        self
    }

    /// The keys, from the gateway's answer.
    #[must_use]
    pub fn finish(self, answer: &[u8]) -> Option<Peer> {
        let message = Message::parse(answer).ok()?;
        let (ke, nr) = ke_and_nonce(&message.payloads)?;
        let shared = self.key_exchange.finish(ke).ok()?;
        let spis = (self.spi_i, message.header.spi_r);
        let seed = Skeyseed::initial(suite().prf(), &self.ni, nr, &shared);
        let keys = IkeKeys::derive(seed, &suite(), (&self.ni, nr), spis).ok()?;
        Some(Peer::new(true, self.number, spis, keys, self.random, self.octets, nr.to_vec()))
    }
}

impl Peer {
    fn new(
        initiator: bool,
        number: usize,
        (spi_i, spi_r): (u64, u64),
        keys: IkeKeys,
        random: Seeded,
        own_init: Vec<u8>,
        other_nonce: Vec<u8>,
    ) -> Self {
        let cipher = |(sk_e, sk_a)| SkCipher::new(&suite(), sk_e, sk_a).expect("a cipher");
        let (outbound, inbound) =
            (cipher(keys.sent_by(initiator)), cipher(keys.sent_by(!initiator)));
        let suite = suite();
        Self {
            initiator,
            spi_i,
            spi_r,
            number,
            suite,
            keys,
            outbound,
            inbound,
            random,
            own_init,
            other_nonce,
        }
    }

    /// The peer that answers an IKE_SA_INIT request, and its answer. `additional`: it chooses
    /// ML-KEM-768 as first additional key exchange.
    #[must_use]
    pub fn answering(
        number: usize,
        request: &[u8],
        seed: u64,
        additional: bool,
    ) -> Option<(Self, Vec<u8>)> {
        let message = Message::parse(request).ok()?;
        let mut random = Seeded::new(seed ^ 0x7065_6572);
        let (ke, ni) = ke_and_nonce(&message.payloads)?;
        let (public, shared) = respond(Group::Curve25519, ke, &mut random).ok()?;
        let nr = octets(&mut random, NONCE_LEN);
        let spis = (message.header.spi_i, random.next() | 1);
        let flags = Flags { initiator: false, version: false, response: true };
        let header = Header::new(spis.0, spis.1, ExchangeType::IKE_SA_INIT, flags, 0);
        let mut payloads = init_payloads(public, &nr);
        if let Some(Payload::Sa(sa)) = payloads.first_mut().filter(|_| additional) {
            let transforms = &mut sa.proposals.first_mut()?.transforms;
            transforms.push(Transform::new(wire::transform::ADDKE1, 36));
            let kind = NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED;
            payloads.push(Payload::notify(kind, Vec::new()));
        }
        let answer = Message::new(header, payloads).emit().ok()?;
        let seed = Skeyseed::initial(suite().prf(), ni, &nr, &shared);
        let keys = IkeKeys::derive(seed, &suite(), (ni, &nr), spis).ok()?;
        let peer = Self::new(false, number, spis, keys, random, answer.clone(), ni.to_vec());
        Some((peer, answer))
    }

    /// Its generator.
    pub const fn random(&mut self) -> &mut Seeded {
        &mut self.random
    }

    /// ID and AUTH, with the key that everybody has in tests.
    #[must_use]
    pub fn proof(&self) -> Vec<Payload> {
        let identity = policies::identity(self.number);
        let id = Identification::new(identity.kind_number(), identity.data().to_vec());
        let prf = self.suite.prf();
        let key = if self.initiator { &self.keys.sk_pi } else { &self.keys.sk_pr };
        let maced = prf.compute(key.as_bytes(), &[&id.signed_octets()]);
        let parts: [&[u8]; 3] = [&self.own_init, &self.other_nonce, maced.as_bytes()];
        let data = shared_key_auth(prf, policies::KEY, &parts).as_bytes().to_vec();
        let auth = Payload::Auth(Authentication { method: Authentication::SHARED_KEY, data });
        vec![if self.initiator { Payload::IdI(id) } else { Payload::IdR(id) }, auth]
    }

    /// SA, TSi and TSr of the first child, as IKE_AUTH has them: one transform of each type.
    #[must_use]
    pub fn child(&self, spi: u32) -> Vec<Payload> {
        let mut transforms = policies::esp_proposal().transforms;
        transforms.retain(|item| item.kind != wire::transform::KE);
        transforms.pop();
        let spi = spi.to_be_bytes().to_vec();
        let proposal = Proposal { number: 1, protocol: protocol::ESP, spi, transforms };
        let list = |number: u8| TrafficSelectors::from(vec![policies::network(number)]);
        let own = self.number as u8 + 1;
        let (tsi, tsr) =
            if self.initiator { (list(own), list(3 - own)) } else { (list(3 - own), list(own)) };
        vec![
            Payload::Sa(SecurityAssociation { proposals: vec![proposal] }),
            Payload::TsI(tsi),
            Payload::TsR(tsr),
        ]
    }

    /// The header of a message of this peer.
    #[must_use]
    pub const fn header(&self, exchange: ExchangeType, id: u32, response: bool) -> Header {
        let flags = Flags { initiator: self.initiator, version: false, response };
        Header::new(self.spi_i, self.spi_r, exchange, flags, id)
    }

    /// Payloads, sealed.
    ///
    /// # Panics
    /// If they are longer than a message can be.
    pub fn message(
        &mut self,
        exchange: ExchangeType,
        id: u32,
        response: bool,
        payloads: &[Payload],
    ) -> Vec<u8> {
        let (first, plaintext) = emit_chain(payloads).expect("payloads");
        self.seal(exchange, id, response, (first, &plaintext), Protection::Sk)
    }

    /// Any octets, sealed as a message or a fragment.
    ///
    /// # Panics
    /// If they are longer than a message can be.
    pub fn seal(
        &mut self,
        exchange: ExchangeType,
        id: u32,
        response: bool,
        (first, plaintext): (PayloadType, &[u8]),
        protection: Protection,
    ) -> Vec<u8> {
        let header = self.header(exchange, id, response);
        let body_len = self.outbound.body_len(plaintext.len());
        let mut octets =
            protected_prefix(&header, protection, first, body_len).expect("a length that fits");
        let sealed = self.outbound.seal(&mut self.random, &octets, plaintext).expect("sealed");
        octets.extend_from_slice(&sealed);
        octets
    }

    /// A message of the gateway, with its payloads. `None`: it is none, or a fragment.
    #[must_use]
    pub fn open(&self, octets: &[u8]) -> Option<Message> {
        let parsed = parse_datagram(octets).ok()?;
        let encrypted = parsed.encrypted?;
        let (aad, body) = (octets.get(encrypted.aad)?, octets.get(encrypted.body)?);
        let plaintext = self.inbound.open(aad, body).ok()?;
        let payloads = parse_chain(encrypted.inner_first, &plaintext).ok()?;
        Some(Message::new(parsed.header, payloads))
    }
}

/// A gateway with such a peer.
#[derive(Debug)]
pub struct Duel {
    /// The gateway.
    pub gateway: Gateway,
    /// The peer; none before both have keys.
    pub peer: Option<Peer>,
    /// The clock.
    pub now: Millis,
    /// The last request of the peer.
    pub last_request: Vec<u8>,
}

impl Duel {
    /// A gateway that has heard of nobody.
    #[must_use]
    pub const fn new(gateway: Gateway) -> Self {
        Self { gateway, peer: None, now: Millis(1_000), last_request: Vec::new() }
    }

    /// The same with one of [`policies`]' gateways, changed before it starts; `seed` is that of
    /// its entropy.
    #[must_use]
    pub fn with(
        number: usize,
        seed: u64,
        connection: impl FnOnce(&mut ConnectionPolicy),
        configuration: impl FnOnce(&mut Configuration),
    ) -> Self {
        let address = policies::ADDRESSES[usize::from(number != 0)];
        let mut policy = policies::connection(number);
        connection(&mut policy);
        let mut whole = policies::configuration(policy);
        configuration(&mut whole);
        Self::new(Gateway::new(address, Arc::new(whole), seed))
    }

    /// The operator ends the connection, and nobody answers any more: twenty minutes on, nothing
    /// may be left.
    pub fn end(&mut self) {
        let target = Target::Connection("peer".into());
        self.input(Input::Terminate { target, force: false, request: None });
        for _ in 0..40 {
            self.wait(30_000);
        }
    }

    /// Octets of the peer's; what the gateway sends in return.
    pub fn tell(&mut self, octets: Vec<u8>) -> Vec<Vec<u8>> {
        let own = usize::from(self.gateway.address() == policies::ADDRESSES[1]);
        let (local, remote) = (endpoint(own), endpoint(1 - own));
        self.input(Input::Datagram { local, remote, octets })
    }

    /// Anything else that happens to the gateway; what it sends.
    pub fn input(&mut self, input: Input) -> Vec<Vec<u8>> {
        let sent = self.gateway.handle(input, self.now);
        sent.into_iter().map(|datagram| datagram.octets).collect()
    }

    /// Time passes, and with it the gateway's deadlines; what it sends.
    pub fn wait(&mut self, milliseconds: u64) -> Vec<Vec<u8>> {
        self.now = self.now.plus(milliseconds);
        let mut sent = self.input(Input::Timer);
        // One call is for so many of those that are due.
        while self.gateway.deadline().is_some_and(|at| at <= self.now) {
            sent.extend(self.input(Input::Timer));
        }
        sent
    }

    /// The peer starts: the gateway is half-open.
    ///
    /// # Panics
    /// If the gateway does not answer.
    #[must_use]
    pub fn half_open(mut self, seed: u64) -> Self {
        let own = usize::from(self.gateway.address() == policies::ADDRESSES[1]);
        let dial = Dial::new(1 - own, seed, &[]);
        self.last_request = dial.octets.clone();
        let sent = self.tell(dial.octets.clone());
        self.peer = dial.finish(sent.first().expect("an answer"));
        assert!(self.peer.is_some(), "an answer with keys");
        self
    }

    /// The peer starts and proves who it is: the IKE SA stands, with a child.
    ///
    /// # Panics
    /// If the gateway does not answer.
    #[must_use]
    pub fn established(self, seed: u64) -> Self {
        let mut duel = self.half_open(seed);
        let peer = duel.peer.as_mut().expect("half-open");
        let mut payloads = peer.proof();
        payloads.extend(peer.child(0x0101_0101));
        let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
        duel.last_request = request.clone();
        let sent = duel.tell(request);
        assert_eq!(sent.len(), 1, "an answer: {:?}", duel.gateway.log);
        assert_eq!(duel.gateway.children.len(), 1, "a child: {:?}", duel.gateway.log);
        duel
    }

    /// The gateway starts; what it sent is returned.
    ///
    /// # Panics
    /// If it sends nothing.
    pub fn dialled(&mut self) -> Vec<u8> {
        let input = Input::Initiate {
            connection: Some("peer".into()),
            child: Some("net".into()),
            packet: None,
            request: None,
        };
        self.input(input).pop().expect("a request")
    }

    /// The gateway starts and has sent IKE_AUTH, which is returned.
    ///
    /// # Panics
    /// If the gateway does not go on.
    pub fn auth_requested(&mut self, seed: u64) -> Vec<u8> {
        let own = usize::from(self.gateway.address() == policies::ADDRESSES[1]);
        let request = self.dialled();
        let (peer, answer) = Peer::answering(1 - own, &request, seed, false).expect("a request");
        self.peer = Some(peer);
        self.tell(answer).pop().expect("IKE_AUTH")
    }

    /// The gateway starts, and the IKE SA stands, with a child.
    ///
    /// # Panics
    /// If the gateway does not accept it.
    #[must_use]
    pub fn established_by_gateway(mut self, seed: u64) -> Self {
        self.auth_requested(seed);
        let peer = self.peer.as_mut().expect("keys");
        let mut payloads = peer.proof();
        payloads.extend(peer.child(0x0101_0101));
        let answer = peer.message(ExchangeType::IKE_AUTH, 1, true, &payloads);
        self.tell(answer);
        assert_eq!(self.gateway.children.len(), 1, "a child: {:?}", self.gateway.log);
        self
    }
}
