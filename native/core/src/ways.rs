//! Where the peers are, and by which of our sockets they are reached. `contract.py` documents every
//! call.

use crate::allowedips::Handle;
use crate::engine::{Engine, Refused, Shell};
use crate::events::pending;
use crate::road::Road;
use crate::route::{Route, Via};
use crate::shed::Places;

/// Sockets beside the pair: a few fresh ports at a time for one peer behind a difficult NAT, and as
/// many as the first guesses at its ports take.
pub const MAX_SOCKETS: usize = 64;

/// By which ways datagrams come and go beside the pair of sockets.
#[derive(Default)]
pub struct Vias {
    last: Via,
    sockets: Vec<Via>,
}

impl Vias {
    /// The way to an endpoint, None if what it names is not there (any more).
    pub fn resolve(&self, route: Route) -> Option<Route> {
        (route.via == 0 || self.sockets.contains(&route.via)).then_some(route)
    }
}

impl Engine {
    /// A name for another socket of the shell's.
    pub fn add_socket(&mut self) -> Result<Via, Refused> {
        if self.vias.sockets.len() == MAX_SOCKETS {
            return Err(Refused(format!("there are {MAX_SOCKETS} sockets already")));
        }
        self.vias.last += 1;
        self.vias.sockets.push(self.vias.last);
        Ok(self.vias.last)
    }

    /// Forget a way, after what goes by it was sent. What there is no more: the shell closes it.
    pub fn remove_via(&mut self, via: Via, now: f64, shell: &mut impl Shell) -> Vec<Via> {
        let Some(at) = self.vias.sockets.iter().position(|&known| known == via) else {
            return Vec::new();
        };
        self.flush(now, shell);
        self.vias.sockets.swap_remove(at);
        let Engine { roads, places, .. } = self;
        for road in roads.values_mut() {
            forget_via(road, via, places);
        }
        vec![via]
    }

    /// Where the peer is.
    pub fn set_endpoint(&mut self, peer: Handle, route: Option<Route>) {
        let route = route.and_then(|route| self.vias.resolve(route));
        if let Some(road) = self.roads.get_mut(&peer) {
            self.places.moved(road.route.as_ref(), route.as_ref());
            road.route = route;
            road.single_until = 0.0;
            road.elsewhere = None;
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
            None => self.roads.values_mut().for_each(forget),
            Some(peer) => self.roads.get_mut(&peer).into_iter().for_each(forget),
        }
    }
}

fn forget_via(road: &mut Road, via: Via, places: &mut Places) {
    let by_it = |route: &Option<Route>| route.is_some_and(|route| route.via == via);
    if by_it(&road.route) {
        places.moved(road.route.as_ref(), None);
        road.route = None;
    }
    if by_it(&road.elsewhere) {
        road.elsewhere = None;
    }
    if let Some(gate) = road.gate.as_mut().filter(|gate| by_it(&gate.route)) {
        gate.route = None;
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
