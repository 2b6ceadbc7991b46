//! The addresses our listeners bind to, and the names they answer to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use url::Host;

/// Reads `ADDRESS:PORT`: a numeric address or `localhost`, and a port (0 takes a free one).
///
/// # Errors
/// A message and a remedy.
pub(super) fn listen(text: &str) -> Result<SocketAddr, (String, String)> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let help = "write ADDRESS:PORT, such as 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for all interfaces";
    let Some((host, port)) = text.rsplit_once(':') else {
        let message = match text.parse::<IpAddr>() {
            Ok(_) => "the port is missing",
            Err(_) => "it is not an address and a port",
        };
        return Err((message.into(), help.into()));
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(("the port is not a number from 0 to 65535".into(), help.into()));
    };
    match host {
        "localhost" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        "" | "*" => Err(("the address before the port is missing".into(), help.into())),
        _ if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            Err(("an IPv6 address needs brackets before its port".into(), format!("write [{host}]:{port}")))
        }
        _ => Err(("a listener binds to a numeric address, not to a name".into(), help.into())),
    }
}

/// Whether two listeners can't both bind.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let anywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (anywhere || one.ip() == other.ip())
}

/// Whether only this machine can reach the address.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Reads a name as it stands in a `Host` header, without a port: lower case, international names in Punycode.
/// `None` if it isn't one.
pub(super) fn host_name(text: &str) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let bracketed = text.starts_with('[') && text.ends_with(']');
    if text.is_empty() || !(bracketed || text.chars().all(plain)) {
        return None;
    }
    Host::parse(text).ok().map(|host| host.to_string())
}
