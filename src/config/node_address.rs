//! Where a node is, as it is written by hand.

use std::fmt;
use std::str::FromStr;

/// `NAME=HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node's name, as it is given to its `quarry node`.
    pub name: String,
    /// `HOST:PORT`.
    pub address: String,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = "write a node as NAME=HOST:PORT, such as worker-1=10.0.0.11:9809";
        let (name, address) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`; {right}"))?;
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address:?} has no port; {right}"))?;
        if name.is_empty() || host.is_empty() {
            return Err(format!("{text:?} has no name or no host; {right}"));
        }
        // Else the port would be taken for the last group of the address.
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(format!("{host:?} needs brackets: [{host}]:{port}"));
        }
        match port.parse::<u16>() {
            Ok(1..) => Ok(Self { name: name.to_owned(), address: address.to_owned() }),
            _ => Err(format!("{port:?} is no port from 1 to 65535; {right}")),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.name, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_name_and_an_address_with_a_port() {
        for good in ["a=b:1", "worker-1=node.example.org:9809", "a=[::1]:9809"] {
            assert_eq!(good.parse::<NodeAddress>().unwrap().to_string(), good);
        }
        for (bad, word) in [
            ("worker", "no `=`"),
            ("=a:1", "no name"),
            ("a=:1", "no host"),
            ("a=b", "no port"),
            ("a=b:0", "1 to 65535"),
            ("a=b:x", "1 to 65535"),
            ("a=::1:9809", "brackets"),
        ] {
            assert!(bad.parse::<NodeAddress>().unwrap_err().contains(word), "{bad}");
        }
    }
}
