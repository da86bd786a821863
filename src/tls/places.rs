//! Who is showing who he is: some in all, and few from one address. Whoever comes is let in, and the one who has taken the
//! longest goes, so that nobody can keep the controller out, which needs milliseconds, by beginning and not going on.

use std::net::SocketAddr;

use tokio::task::AbortHandle;

/// In all.
const ALL: usize = 64;
/// From one address. A controller makes one connection at a time.
const FROM_ONE: usize = 8;

/// The clients that have a place, with what is being done with each, the oldest first.
#[derive(Default)]
pub(super) struct Places(Vec<(SocketAddr, AbortHandle)>);

impl Places {
    /// Gives a place to one more. If those are too many, ends the oldest of its address, or of all, and says who that was.
    pub(super) fn take(&mut self, client: SocketAddr, greeting: AbortHandle) -> Option<SocketAddr> {
        self.0.retain(|(_, greeting)| !greeting.is_finished());
        self.0.push((client, greeting));
        let is_neighbour = |(other, _): &(SocketAddr, AbortHandle)| other.ip() == client.ip();
        let neighbours = self.0.iter().filter(|place| is_neighbour(place)).count();
        let oldest = if neighbours > FROM_ONE {
            self.0.iter().position(is_neighbour)
        } else {
            (self.0.len() > ALL).then_some(0)
        };
        let (client, greeting) = self.0.remove(oldest?);
        greeting.abort();
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn client(host: usize, number: usize) -> SocketAddr {
        let [host, port] = [host, number].map(|number| u16::try_from(number).unwrap());
        SocketAddr::from(([10, 0, 0, u8::try_from(host).unwrap()], port))
    }

    fn silent() -> AbortHandle {
        tokio::spawn(pending::<()>()).abort_handle()
    }

    #[tokio::test]
    async fn when_there_are_too_many_the_oldest_of_the_address_or_of_all_goes() {
        let mut places = Places::default();
        let first = silent();
        assert_eq!(places.take(client(0, 0), first.clone()), None);
        for host in 0..ALL / FROM_ONE {
            for number in usize::from(host == 0)..FROM_ONE {
                assert_eq!(places.take(client(host, number), silent()), None);
            }
        }
        assert_eq!(places.take(client(3, 100), silent()), Some(client(3, 0)), "its address has too many");
        assert_eq!(places.take(client(99, 0), silent()), Some(client(0, 0)), "all together are too many");
        tokio::task::yield_now().await;
        assert!(first.is_finished());
        assert_eq!(places.take(client(99, 1), silent()), Some(client(0, 1)));
        assert_eq!(places.0.len(), ALL);
    }

    #[tokio::test]
    async fn who_has_shown_who_he_is_takes_no_place() {
        let mut places = Places::default();
        for number in 0..ALL {
            let greeting = tokio::spawn(ready(()));
            assert_eq!(places.take(client(0, number), greeting.abort_handle()), None);
            greeting.await.unwrap();
        }
    }
}
