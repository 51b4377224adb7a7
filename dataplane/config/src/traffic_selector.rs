//! Traffic selectors in swanctl's syntax: `10.1.0.0/16`, `10.1.0.1-10.1.0.9[udp/1000-2000]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses, a protocol and ports (RFC 7296 section 3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IPv6 rather than IPv4; IPv4 addresses are the low 32 bits.
    pub ipv6: bool,
    /// First address, as a number.
    pub first: u128,
    /// Last address, as a number, not below the first.
    pub last: u128,
    /// IP protocol; 0 is any.
    pub protocol: u8,
    /// First port, or ICMP type and code as RFC 7296 puts them.
    pub first_port: u16,
    /// Last port, not below the first.
    pub last_port: u16,
}

/// What a selector may look like, for error messages.
pub(crate) const SYNTAX: &str =
    "ADDRESS, ADDRESS/LENGTH, FIRST-LAST or dynamic, each with [PROTOCOL] or [PROTOCOL/PORT(S)]";

const PROTOCOLS: [(&str, u8); 15] = [
    ("any", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("ospf", 89),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
];

/// The services that selectors tend to name (the registry of service names and ports).
const SERVICES: [(&str, u16); 23] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("kerberos", 88),
    ("ntp", 123),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("isakmp", 500),
    ("syslog", 514),
    ("ldaps", 636),
    ("l2f", 1701),
    ("l2tp", 1701),
    ("radius", 1812),
    ("sip", 5060),
    ("postgresql", 5432),
];

/// A selector as it is written: one that is known, or `dynamic`, which stands for the address
/// that a side turns out to have, outer or virtual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectorPattern {
    /// Known.
    Fixed(TrafficSelector),
    /// The side's own address.
    Dynamic {
        /// IP protocol; 0 is any.
        protocol: u8,
        /// First port.
        first_port: u16,
        /// Last port.
        last_port: u16,
    },
}

impl SelectorPattern {
    /// All traffic of the side's own address.
    pub const DYNAMIC: Self = Self::Dynamic { protocol: 0, first_port: 0, last_port: u16::MAX };

    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong, without the place.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The address is thrown away again where it is dynamic.
        let selector = TrafficSelector::parse(text, Ipv4Addr::UNSPECIFIED.into())?;
        let addresses = text.split('[').next().unwrap_or_default();
        if addresses.trim() != "dynamic" {
            return Ok(Self::Fixed(selector));
        }
        let TrafficSelector { protocol, first_port, last_port, .. } = selector;
        Ok(Self::Dynamic { protocol, first_port, last_port })
    }

    /// The selector, if it is known.
    #[must_use]
    pub fn fixed(&self) -> Option<TrafficSelector> {
        match self {
            Self::Fixed(selector) => Some(*selector),
            Self::Dynamic { .. } => None,
        }
    }

    /// The selector with `own` for `dynamic`.
    #[must_use]
    pub fn resolve(&self, own: IpAddr) -> TrafficSelector {
        match *self {
            Self::Fixed(selector) => selector,
            Self::Dynamic { protocol, first_port, last_port } => {
                TrafficSelector { protocol, first_port, last_port, ..TrafficSelector::host(own) }
            }
        }
    }
}

impl fmt::Display for SelectorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(selector) => selector.fmt(f),
            Self::Dynamic { .. } => {
                f.write_str("dynamic")?;
                self.resolve(Ipv4Addr::UNSPECIFIED.into()).fmt_qualifier(f)
            }
        }
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is no IP address"))
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl TrafficSelector {
    /// All traffic of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let number = to_number(address);
        Self {
            ipv6: address.is_ipv6(),
            first: number,
            last: number,
            protocol: 0,
            first_port: 0,
            last_port: u16::MAX,
        }
    }

    /// Reads a selector; `dynamic` stands for `own`, an outer address.
    ///
    /// # Errors
    /// What is wrong, without the place.
    pub fn parse(text: &str, own: IpAddr) -> Result<Self, String> {
        let (addresses, qualifier) = match text.split_once('[') {
            None => (text, None),
            Some((addresses, rest)) => {
                (addresses, Some(rest.strip_suffix(']').ok_or("the bracket is not closed")?))
            }
        };
        let addresses = addresses.trim();
        let mut selector = if addresses == "dynamic" {
            Self::host(own)
        } else if let Some((first, last)) = addresses.split_once('-') {
            Self::range(address(first)?, address(last)?)?
        } else if let Some((network, length)) = addresses.split_once('/') {
            Self::network(address(network)?, length)?
        } else {
            Self::host(address(addresses)?)
        };
        if let Some(qualifier) = qualifier {
            selector.qualify(qualifier)?;
        }
        Ok(selector)
    }

    fn range(first: IpAddr, last: IpAddr) -> Result<Self, String> {
        if first.is_ipv6() != last.is_ipv6() {
            return Err(format!("{first} and {last} are of different families"));
        }
        if first > last {
            return Err(format!("{first}-{last} runs backwards"));
        }
        Ok(Self { last: to_number(last), ..Self::host(first) })
    }

    fn network(network: IpAddr, length: &str) -> Result<Self, String> {
        let selector = Self::network_of(network, length)?;
        if selector.first != to_number(network) {
            return Err(format!("{network}/{} has bits set past the prefix", length.trim()));
        }
        Ok(selector)
    }

    /// The network around an address.
    pub(crate) fn network_of(address: IpAddr, length: &str) -> Result<Self, String> {
        let bits: u32 = if address.is_ipv6() { 128 } else { 32 };
        let length = length.trim().parse::<u32>().ok().filter(|length| *length <= bits);
        let length = length.ok_or_else(|| format!("the prefix length is not 0 to {bits}"))?;
        let host_bits = bits - length;
        let mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let number = to_number(address);
        Ok(Self { first: number & !mask, last: number | mask, ..Self::host(address) })
    }

    /// First and last address.
    #[must_use]
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        (from_number(self.first, self.ipv6), from_number(self.last, self.ipv6))
    }

    pub(crate) fn address_of(number: u128, ipv6: bool) -> IpAddr {
        from_number(number, ipv6)
    }

    fn qualify(&mut self, qualifier: &str) -> Result<(), String> {
        let (protocol, port) = match qualifier.split_once('/') {
            None => (qualifier.trim(), None),
            Some((protocol, port)) => (protocol.trim(), Some(port.trim())),
        };
        let named = PROTOCOLS.iter().find(|(name, _)| *name == protocol);
        self.protocol = match named {
            Some((_, number)) => *number,
            None => protocol.parse().map_err(|_| format!("{protocol:?} is no protocol"))?,
        };
        let Some(port) = port.filter(|port| *port != "any" && !port.is_empty()) else {
            return Ok(());
        };
        let icmp = matches!(self.protocol, 1 | 58);
        if !icmp && !matches!(self.protocol, 6 | 17 | 132) {
            return Err(format!("protocol {protocol:?} has no ports"));
        }
        (self.first_port, self.last_port) = if icmp { icmp_type(port)? } else { ports(port)? };
        Ok(())
    }

    /// Whether some packet is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let protocols =
            self.protocol == 0 || other.protocol == 0 || self.protocol == other.protocol;
        self.ipv6 == other.ipv6
            && protocols
            && self.first <= other.last
            && other.first <= self.last
            && self.first_port <= other.last_port
            && other.first_port <= self.last_port
    }

    /// The fewest prefixes that cover the addresses exactly: network and significant bits.
    #[must_use]
    pub fn prefixes(&self) -> Vec<(IpAddr, u8)> {
        let bits: u32 = if self.ipv6 { 128 } else { 32 };
        let mut prefixes = Vec::new();
        let mut next = Some(self.first);
        while let Some(first) = next.filter(|first| *first <= self.last) {
            // As large as the start is aligned and the rest allows.
            let aligned = first.trailing_zeros().min(bits);
            let mut host_bits = aligned;
            let end = |host_bits: u32| first | u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
            while host_bits > 0 && end(host_bits) > self.last {
                host_bits -= 1;
            }
            prefixes.push((from_number(first, self.ipv6), (bits - host_bits) as u8));
            next = end(host_bits).checked_add(1);
        }
        prefixes
    }
}

fn from_number(number: u128, ipv6: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if !ipv6 => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let text = text.trim();
        let named = SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
        let port = named.or_else(|| text.parse::<u16>().ok());
        port.ok_or_else(|| format!("{text:?} is no port, 0 to 65535"))
    };
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok((first, last)) } else { Err(format!("{first}-{last} runs backwards")) }
}

/// `8` is type 8 with any code, `8(0)` is type 8 code 0, `0-15` is a range of types.
fn icmp_type(text: &str) -> Result<(u16, u16), String> {
    let octet = |text: &str| {
        text.trim().parse::<u8>().map(u16::from).map_err(|_| format!("{text:?} is not 0 to 255"))
    };
    if let Some((kind, code)) = text.split_once('(') {
        let code = code.strip_suffix(')').ok_or("the parenthesis is not closed")?;
        let both = (octet(kind)? << 8) | octet(code)?;
        return Ok((both, both));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (octet(first)?, octet(last)?);
    if first <= last {
        Ok((first << 8, (last << 8) | 255))
    } else {
        Err(format!("{first}-{last} runs backwards"))
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefixes().as_slice() {
            [(address, length)] => write!(f, "{address}/{length}")?,
            _ => write!(
                f,
                "{}-{}",
                from_number(self.first, self.ipv6),
                from_number(self.last, self.ipv6)
            )?,
        }
        self.fmt_qualifier(f)
    }
}

impl TrafficSelector {
    /// `[tcp/80]`, if there is a protocol.
    fn fmt_qualifier(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any_port = (self.first_port, self.last_port) == (0, u16::MAX);
        if self.protocol == 0 && any_port {
            return Ok(());
        }
        let name = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol);
        match name {
            Some((name, _)) => write!(f, "[{name}")?,
            None => write!(f, "[{}", self.protocol)?,
        }
        let (first, last) = (self.first_port, self.last_port);
        if any_port {
            f.write_str("]")
        } else if matches!(self.protocol, 1 | 58) {
            match (first >> 8, first & 255, last >> 8, last & 255) {
                (kind, code, kind2, code2) if kind == kind2 && code == code2 => {
                    write!(f, "/{kind}({code})]")
                }
                (kind, _, kind2, _) if kind == kind2 => write!(f, "/{kind}]"),
                (kind, _, kind2, _) => write!(f, "/{kind}-{kind2}]"),
            }
        } else if first == last {
            write!(f, "/{first}]")
        } else {
            write!(f, "/{first}-{last}]")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn parse(text: &str) -> TrafficSelector {
        TrafficSelector::parse(text, OWN).expect(text)
    }

    #[test]
    fn what_is_read_is_what_is_shown() {
        for text in [
            "10.1.0.0/16",
            "10.1.0.0/16[tcp/80]",
            "10.1.0.1-10.1.0.9[udp/1000-2000]",
            "2001:db8::/32",
            "2001:db8::1-2001:db8::7[gre]",
            "::/0",
            "0.0.0.0/0",
            "10.0.0.1/32[icmp/8]",
            "10.0.0.1/32[icmp/8(0)]",
            "10.0.0.1/32[99]",
        ] {
            assert_eq!(parse(text).to_string(), text);
            assert_eq!(parse(&parse(text).to_string()), parse(text));
        }
        assert_eq!(parse("dynamic[tcp]").to_string(), "192.0.2.1/32[tcp]");
        assert_eq!(parse("10.0.0.1").to_string(), "10.0.0.1/32");
        assert_eq!(parse("10.0.0.0/8[tcp/http]").to_string(), "10.0.0.0/8[tcp/80]");
        for text in ["dynamic", "dynamic[udp/53]", "10.1.0.0/16[tcp/80]"] {
            assert_eq!(SelectorPattern::parse(text).expect(text).to_string(), text);
        }
        let dynamic = SelectorPattern::parse("dynamic[udp/53]").expect("good");
        assert_eq!(dynamic.resolve(OWN), parse("192.0.2.1/32[udp/53]"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "10.1.0.0/33",
            "10.1.0.1/16",
            "10.1.0.9-10.1.0.1",
            "10.1.0.1-::1",
            "10.1.0.0/16[tcp/80",
            "10.1.0.0/16[tcp/99999]",
            "10.1.0.0/16[gre/1]",
            "10.1.0.0/16[nonsense]",
            "10.1.0.0/16[256]",
            "host.example",
            "10.1.0.0/16[tcp/nonsense]",
            "10.1.0.0/16[tcp/domain-ssh]",
            "::/129",
        ] {
            assert!(TrafficSelector::parse(text, OWN).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_cover_exactly() {
        let shown = |text: &str| {
            let prefixes = parse(text).prefixes();
            prefixes.iter().map(|(a, l)| format!("{a}/{l}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("10.1.0.0/16"), "10.1.0.0/16");
        assert_eq!(shown("10.0.0.1-10.0.0.6"), "10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32");
        assert_eq!(shown("0.0.0.0-255.255.255.255"), "0.0.0.0/0");
        assert_eq!(shown("::/0"), "::/0");
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(shown(&format!("{last}-{last}")), format!("{last}/128"));
        assert!(parse(&format!("::1-{last}")).prefixes().len() == 128);
    }
}
