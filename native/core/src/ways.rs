//! Where the peers are, and by which of our sockets and relays they are reached. `contract.py`
//! documents every call.

use std::net::IpAddr;

use crate::allowedips::Handle;
use crate::demux::CHANNEL_HEADER;
use crate::engine::{Engine, Map, Refused, Shell};
use crate::events::pending;
use crate::road::Road;
use crate::route::{Route, Via};
use crate::shed::Places;

/// Sockets beside the pair: a few fresh ports at a time for one peer behind a difficult NAT, and as
/// many as the first guesses at its ports take.
pub const MAX_SOCKETS: usize = 64;
/// Allocations at TURN servers: two or three servers, over each family, by UDP, TCP and TLS.
pub const MAX_RELAYS: usize = 16;
/// RFC 8656 section 12: the numbers that may be bound. Others that begin with 0x4 are reserved.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4FFF;

/// A TURN server with an allocation of ours.
struct Relay {
    via: Via,
    /// The way to it; if it is carried, it names the relay itself, whose carrier leads there.
    server: Route,
    carried: bool,
    /// What comes on each channel is from there.
    channels: Map<Route>,
}

/// How the datagrams to a peer go out.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// For whom they are.
    pub peer: Handle,
    /// The way that they really go: to the relay's server, if there is a relay.
    pub wire: Route,
    /// The TURN channel, 0 without a relay.
    pub channel: u16,
    /// By a carrier, one at a time.
    pub carried: bool,
    /// UDP_SEGMENT fails on the way: send datagram by datagram.
    pub single: bool,
}

impl Link {
    /// The bytes before each message.
    #[inline]
    pub fn head(&self) -> usize {
        if self.channel == 0 {
            0
        } else {
            CHANNEL_HEADER
        }
    }
}

/// By which ways datagrams come and go beside the pair of sockets.
#[derive(Default)]
pub struct Vias {
    last: Via,
    sockets: Vec<Via>,
    relays: Vec<Relay>,
}

impl Vias {
    fn name(&mut self) -> Via {
        self.last += 1;
        self.last
    }

    fn relay(&self, via: Via) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.via == via)
    }

    /// The way to an endpoint, None if what it names is not there (any more).
    pub fn resolve(&self, route: Route) -> Option<Route> {
        if let Some(relay) = self.relay(route.via) {
            return relay.channels.get(&route.channel.into()).copied();
        }
        let known = route.via == 0 || self.sockets.contains(&route.via);
        (known && route.channel == 0).then_some(route)
    }

    /// How datagrams go out to a peer, unless it is nowhere.
    #[inline]
    pub fn link(&self, peer: Handle, road: &Road, now: f64) -> Option<Link> {
        self.link_to(peer, road.route?, now < road.single_until)
    }

    /// How datagrams go out to a place.
    #[inline]
    pub fn link_to(&self, peer: Handle, route: Route, single: bool) -> Option<Link> {
        if route.channel == 0 {
            return Some(Link { peer, wire: route, channel: 0, carried: false, single });
        }
        self.link_by(peer, route, single)
    }

    #[cold]
    #[inline(never)]
    fn link_by(&self, peer: Handle, route: Route, single: bool) -> Option<Link> {
        let Relay { server, carried, .. } = *self.relay(route.via)?;
        Some(Link { peer, wire: server, channel: route.channel, carried, single })
    }

    /// The relay whose server a datagram comes from, by a socket of ours.
    pub fn relay_at(&self, route: &Route) -> Option<Via> {
        let found = self.relays.iter().find(|relay| {
            let Route { via, address, port, .. } = relay.server;
            !relay.carried && (via, address, port) == (route.via, route.address, route.port)
        });
        found.map(|relay| relay.via)
    }

    /// Where what comes on a channel is from.
    #[inline]
    pub fn on_channel(&self, relay: Via, number: u16) -> Option<Route> {
        self.relay(relay)?.channels.get(&number.into()).copied()
    }

    /// Relays whose server is reached by this way choose a source afresh.
    pub fn forget_source(&mut self, route: &Route) {
        for relay in self.relays.iter_mut().filter(|relay| relay.server == *route) {
            relay.server = relay.server.without_source();
        }
    }
}

impl Engine {
    // --- Sockets and relays ---

    /// A name for another socket of the shell's.
    pub fn add_socket(&mut self) -> Result<Via, Refused> {
        if self.vias.sockets.len() == MAX_SOCKETS {
            return Err(Refused(format!("there are {MAX_SOCKETS} sockets already")));
        }
        let via = self.vias.name();
        self.vias.sockets.push(via);
        Ok(via)
    }

    /// A name for a relay. Where it is carried, the shell has a socket for it.
    pub fn add_relay(&mut self, server: Route, carried: bool) -> Result<Via, Refused> {
        let vias = &mut self.vias;
        if vias.relays.len() == MAX_RELAYS {
            return Err(Refused(format!("there are {MAX_RELAYS} relays already")));
        }
        let Route { via, address, port, .. } = server;
        if !carried && via != 0 && !vias.sockets.contains(&via) {
            return Err(Refused(format!("no socket {via} leads to the relay's server")));
        }
        if !carried && vias.relay_at(&server).is_some() {
            return Err(Refused(format!("{address}, port {port}, is a relay's already")));
        }
        let name = vias.name();
        let server = Route { via: if carried { name } else { via }, channel: 0, ..server };
        vias.relays.push(Relay { via: name, server, carried, channels: Map::default() });
        Ok(name)
    }

    /// What comes on a channel is from there; None unbinds it.
    pub fn set_channel(
        &mut self,
        via: Via,
        number: u16,
        peer: Option<(IpAddr, u16)>,
    ) -> Result<(), Refused> {
        if !CHANNELS.contains(&number) {
            let (first, last) = (CHANNELS.start(), CHANNELS.end());
            return Err(Refused(format!("a channel is of {first:#x} to {last:#x}")));
        }
        let Some(relay) = self.vias.relays.iter_mut().find(|relay| relay.via == via) else {
            return Err(Refused(format!("there is no relay {via}")));
        };
        let route = peer.map(|(address, port)| Route {
            address,
            port,
            scope: 0,
            source: None,
            ifindex: 0,
            via,
            channel: number,
        });
        let former = match route {
            Some(route) => relay.channels.insert(number.into(), route),
            None => relay.channels.remove(&number.into()),
        };
        if former.is_some() && former != route {
            self.forget_routes(|route| Some(*route) == former);
        }
        Ok(())
    }

    /// Forget a way, after what goes by it was sent, and with a socket the relays that it leads to.
    /// What there is no more: the shell closes it.
    pub fn remove_via(&mut self, via: Via, now: f64, shell: &mut impl Shell) -> Vec<Via> {
        let vias = &self.vias;
        let leads_by = |relay: &&Relay| via != 0 && !relay.carried && relay.server.via == via;
        let mut gone: Vec<Via> = vias.relays.iter().filter(leads_by).map(|r| r.via).collect();
        if vias.sockets.contains(&via) || vias.relay(via).is_some() {
            gone.push(via);
        }
        if !gone.is_empty() {
            self.flush(now, shell);
            self.vias.sockets.retain(|known| !gone.contains(known));
            self.vias.relays.retain(|relay| !gone.contains(&relay.via));
            self.forget_routes(|route| gone.contains(&route.via));
        }
        gone
    }

    fn forget_routes(&mut self, is_gone: impl Fn(&Route) -> bool) {
        let is_gone = |route: &Option<Route>| route.as_ref().is_some_and(&is_gone);
        for road in self.roads.values_mut() {
            if is_gone(&road.route) {
                self.places.moved(road.route.as_ref(), None);
                road.route = None;
            }
            if is_gone(&road.elsewhere) {
                road.elsewhere = None;
            }
            if let Some(gate) = road.gate.as_mut().filter(|gate| is_gone(&gate.route)) {
                gate.route = None;
            }
        }
    }

    // --- Peers ---

    /// Where the peer is. With `hold`, in seconds, what the TUN has for it waits.
    pub fn set_endpoint(
        &mut self,
        peer: Handle,
        route: Option<Route>,
        hold: f64,
        now: f64,
        shell: &mut impl Shell,
    ) {
        let route = route.and_then(|route| self.vias.resolve(route));
        if let Some(road) = self.roads.get_mut(&peer) {
            self.places.moved(road.route.as_ref(), route.as_ref());
            road.route = route;
            road.single_until = 0.0;
            road.elsewhere = None;
        }
        if hold > 0.0 {
            self.begin_hold(peer, now + hold);
        } else {
            // What came while the peer was nowhere; what was kept for a move goes after it.
            if self.roads.get(&peer).is_some_and(|road| road.hold.is_none()) {
                self.flush_staged(peer, now, shell);
            }
            self.let_go(peer, now, shell);
        }
    }

    /// Whether the peer is where its last authentic packet came from.
    pub fn set_roaming(&mut self, peer: Handle, applied: bool) {
        if let Some(road) = self.roads.get_mut(&peer) {
            road.pinned = !applied;
            road.elsewhere = None;
        }
    }

    /// Forget the sticky source of one peer, or of all.
    pub fn clear_source(&mut self, peer: Option<Handle>) {
        let forget = |road: &mut Box<Road>| {
            road.route = road.route.map(|route| route.without_source());
            // The way may be another one now.
            road.single_until = 0.0;
        };
        match peer {
            None => {
                self.roads.values_mut().for_each(forget);
                for relay in &mut self.vias.relays {
                    relay.server = relay.server.without_source();
                }
            }
            Some(peer) => self.roads.get_mut(&peer).into_iter().for_each(forget),
        }
    }
}

/// An authentic packet came from another place than the peer's, or to another address of ours: the
/// peer is there now, or this is only told. The events that it raises.
#[cold]
pub(crate) fn came_from(road: &mut Road, route: &Route, places: &mut Places) -> u8 {
    let is_at = |place: Option<Route>| place.is_some_and(|place| place.leads_to(route));
    if road.pinned && !is_at(road.route) {
        let told = is_at(road.elsewhere);
        road.elsewhere = Some(*route);
        return if told { 0 } else { pending::ELSEWHERE };
    }
    places.moved(road.route.as_ref(), Some(route));
    road.route = Some(*route);
    road.single_until = 0.0;
    pending::ROAMED
}
