//! One cell: a message, and what the gateway makes of it.

use crate::states::Entry;
use xswan_ikev2::Statistics;
use xswan_ikev2::wire::{ExchangeType, Message, Notify, NotifyType, Payload, parse_datagram};
use xswan_simulation::peer::{Duel, Peer};

/// Every exchange, and one that there is not.
pub const EXCHANGES: [(ExchangeType, &str); 7] = [
    (ExchangeType::IKE_SA_INIT, "IKE_SA_INIT"),
    (ExchangeType::IKE_AUTH, "IKE_AUTH"),
    (ExchangeType::CREATE_CHILD_SA, "CREATE_CHILD_SA"),
    (ExchangeType::INFORMATIONAL, "INFORMATIONAL"),
    (ExchangeType::IKE_INTERMEDIATE, "IKE_INTERMEDIATE"),
    (ExchangeType::IKE_FOLLOWUP_KE, "IKE_FOLLOWUP_KE"),
    (ExchangeType(99), "99"),
];

/// Message IDs, and messages that need no ID of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The next request, or the answer to what is outstanding.
    Expected,
    /// One before that.
    Last,
    /// The last request, octet by octet.
    Same,
    /// Two before.
    Older,
    /// A thousand behind.
    FarAhead,
    /// The expected one, by who is the initiator instead of the responder, or the other way.
    Reflected,
    /// The expected one in clear.
    Clear,
}

pub const CLASSES: [Class; 7] = [
    Class::Expected,
    Class::Last,
    Class::Same,
    Class::Older,
    Class::FarAhead,
    Class::Reflected,
    Class::Clear,
];

impl Class {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Last => "last, other octets",
            Self::Same => "last, same octets",
            Self::Older => "older",
            Self::FarAhead => "far ahead",
            Self::Reflected => "expected, wrong role",
            Self::Clear => "expected, in clear",
        }
    }
}

/// The message of a cell; `None` if there is none of this class.
fn message(
    state: &Entry,
    duel: &mut Duel,
    exchange: ExchangeType,
    response: bool,
    class: Class,
) -> Option<Vec<u8>> {
    let expected =
        if response { state.outstanding.unwrap_or_default() } else { state.next_request };
    let id = match class {
        Class::Expected | Class::Reflected | Class::Clear => expected,
        Class::Last => expected.checked_sub(1)?,
        Class::Older => expected.checked_sub(2)?,
        Class::FarAhead => expected + 1_000,
        Class::Same => {
            let same =
                (!response && !duel.last_request.is_empty()).then(|| duel.last_request.clone());
            return same.filter(|octets| {
                parse_datagram(octets).is_ok_and(|parsed| parsed.header.exchange == exchange)
            });
        }
    };
    let peer = duel.peer.as_mut()?;
    if class == Class::Clear {
        let notify = Notify::new(NotifyType::INVALID_IKE_SPI, Vec::new());
        let header = peer.header(exchange, id, response);
        return Message::new(header, vec![Payload::Notify(notify)]).emit().ok();
    }
    if class == Class::Reflected {
        peer.initiator = !peer.initiator;
    }
    let octets = peer.message(exchange, id, response, &[]);
    if class == Class::Reflected {
        peer.initiator = !peer.initiator;
    }
    Some(octets)
}

/// What a cell comes to.
pub fn outcome(
    state: &Entry,
    exchange: ExchangeType,
    response: bool,
    class: Class,
) -> Option<String> {
    let mut duel = (state.reach)();
    let octets = message(state, &mut duel, exchange, response, class)?;
    let (before, counted) = (places(&duel), *duel.gateway.engine.statistics());
    let sent = duel.tell(octets);
    let after = places(&duel);
    let mut parts: Vec<String> =
        sent.iter().map(|octets| describe(duel.peer.as_ref(), exchange, octets)).collect();
    if sent.is_empty() {
        let now = *duel.gateway.engine.statistics();
        parts.push(match reason(&counted, &now) {
            Some(reason) => format!("dropped ({reason})"),
            None if before == after => "taken, no answer".into(),
            None => "taken".into(),
        });
    } else if duel.gateway.engine.statistics().retransmitted_answers > counted.retransmitted_answers
    {
        parts.insert(0, "again".into());
    }
    if before != after {
        parts.push(format!("now {after}"));
    }
    Some(parts.join("; "))
}

/// IKE SAs and Child SAs.
fn places(duel: &Duel) -> String {
    let views: Vec<_> = duel.gateway.engine.ike_sas(duel.now).collect();
    let names: Vec<&str> = views.iter().map(|view| view.state).collect();
    let children: Vec<&str> =
        views.iter().flat_map(|view| &view.children).map(|child| child.state).collect();
    match (names.is_empty(), children.is_empty()) {
        (true, _) => "nothing".into(),
        (false, true) => names.join("+"),
        (false, false) => format!("{} with {}", names.join("+"), children.join("+")),
    }
}

fn reason(before: &Statistics, after: &Statistics) -> Option<&'static str> {
    let pairs = [
        (before.malformed, after.malformed, "malformed"),
        (before.unexpected, after.unexpected, "unexpected"),
        (before.unknown_spi, after.unknown_spi, "unknown SPI"),
        (before.unprotected, after.unprotected, "unprotected"),
        (before.integrity, after.integrity, "integrity"),
        (before.outside_window, after.outside_window, "outside the window"),
    ];
    pairs.into_iter().find(|(before, after, _)| after > before).map(|(_, _, reason)| reason)
}

/// What the gateway sent.
fn describe(peer: Option<&Peer>, exchange: ExchangeType, octets: &[u8]) -> String {
    let opened = peer.and_then(|peer| peer.open(octets));
    let message = opened.or_else(|| Message::parse(octets).ok());
    let Some(message) = message else { return "sends what the peer cannot read".into() };
    let verb = if message.header.flags.response { "answers" } else { "asks" };
    let payloads: Vec<String> = message
        .payloads
        .iter()
        .map(|payload| match payload {
            Payload::Notify(notify) => format!("N({})", notify.kind),
            other => other.kind().to_string(),
        })
        .collect();
    let payloads = payloads.join(" ");
    if message.header.flags.response && message.header.exchange == exchange {
        return format!("{verb} [{payloads}]");
    }
    format!("{verb} {} [{payloads}]", message.header.exchange)
}
