//! A guest's way to a network: a card whose other end is a tap device in the network namespace where the guest's launcher
//! starts (the lab joins it by [`Options::wrapper`](crate::Options::wrapper)).

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::channel::Channel;
use crate::command::Command;
use crate::process;

/// One network card of a guest, with what is set up in the guest before the first command's turn.
#[derive(Debug, Clone)]
pub struct NetworkCard {
    tap: String,
    address: String,
    routes: Vec<(String, String)>,
    hardware_address: String,
}

impl NetworkCard {
    /// A card behind the device `tap`, which must exist; `address` with the length of its network, `10.77.0.11/24`;
    /// `hardware_address` as ip(8) writes it, `02:00:00:00:00:0b`.
    pub fn new(tap: impl Into<String>, hardware_address: impl Into<String>, address: impl Into<String>) -> Self {
        Self { tap: tap.into(), address: address.into(), routes: Vec::new(), hardware_address: hardware_address.into() }
    }

    /// What is for `network` (`10.78.2.0/24`, or `default`) goes by way of the machine with the address `by`.
    #[must_use]
    pub fn route(mut self, network: impl Into<String>, by: impl Into<String>) -> Self {
        self.routes.push((network.into(), by.into()));
        self
    }

    /// The argument for the guest's kernel.
    pub(crate) fn kernel_argument(&self, number: usize) -> String {
        let Self { tap, hardware_address, .. } = self;
        format!("vec{number}:transport=tap,ifname={tap},mac={hardware_address}")
    }

    /// Sets the card up in the running guest.
    pub(crate) fn set_up(&self, number: usize, channel: &Arc<Channel>) -> Result<()> {
        let mut batch = format!("address add {} dev vec{number}\nlink set vec{number} up\n", self.address);
        for (network, by) in &self.routes {
            let _ = writeln!(batch, "route add {network} via {by} dev vec{number}");
        }
        process::run(channel, &Command::new("ip").args(["-batch", "-"]).stdin(batch))?
            .checked()
            .with_context(|| format!("cannot set up the guest's network card on {}", self.tap))?;
        Ok(())
    }
}
