//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of each address. It holds an entry only for an address that has one.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    per_address: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The place of one connection; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    of: IpAddr,
}

impl Crowd {
    pub(super) fn new(per_address: usize) -> Self {
        Self {
            per_address,
            held: Arc::default(),
        }
    }

    /// A place for one more connection of this address; none where it has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let of = neighbourhood(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(of).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Place {
            crowd: self.clone(),
            of,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let held = &self.crowd.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.of);
            }
        }
    }
}

/// What counts as one address: of IPv6 a /64, which is what one host is usually given.
pub(in crate::http) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let crowd = Crowd::new(2);
        let a = "192.0.2.1".parse().unwrap();
        let first = crowd.enter(a).unwrap();
        let _second = crowd.enter("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert!(crowd.enter(a).is_none());
        assert!(crowd.enter("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(crowd.enter(a).is_some());
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let crowd = Crowd::new(1);
        let _held = crowd.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(crowd.enter("2001:db8::ffff:2".parse().unwrap()).is_none());
        assert!(crowd.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let crowd = Crowd::new(1);
        for n in 0..1000_u32 {
            drop(crowd.enter(IpAddr::V4(n.into())));
        }
        assert!(crowd.held.lock().unwrap().is_empty());
    }
}
