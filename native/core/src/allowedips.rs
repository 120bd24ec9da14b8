//! Allowed IPs: which peer owns an address, by the longest prefix (whitepaper section 2).
//!
//! A binary trie with compressed paths for each family, its nodes side by side in one vector and
//! linked by number: 32 bytes each for IPv4, 48 for IPv6, at most two to a prefix. The prefixes of
//! one peer are a list through the nodes. A small cache of answers stands before each trie.

use std::collections::HashMap;

use crate::packet::Address;

/// A peer's handle; 0 is no peer.
pub type Handle = u32;

/// A prefix: an address whose host bits are zero, and a length in bits.
pub type Prefix = (Address, u8);

/// One step of an atomic batch, as `contract.AllowedIpOperation` has it.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Give a prefix to a peer, whoever had it.
    Add(Handle, Prefix),
    /// Take a prefix from a peer, if it has it.
    Remove(Handle, Prefix),
    /// Take every prefix from a peer.
    Replace(Handle),
}

/// Prefixes to owners, of both families.
#[derive(Default)]
pub struct AllowedIps {
    v4: Trie<u32>,
    v6: Trie<u128>,
}

impl AllowedIps {
    /// The owner of an address, or 0.
    #[inline]
    pub fn lookup(&mut self, address: Address) -> Handle {
        match address {
            Address::V4(key) => self.v4.lookup(key),
            Address::V6(key) => self.v6.lookup(key),
        }
    }

    /// Carry out a batch; no lookup sees half of it.
    pub fn apply(&mut self, changes: &[Operation]) {
        for &change in changes {
            match change {
                Operation::Replace(peer) => self.forget(peer),
                Operation::Add(peer, (Address::V4(key), length)) => {
                    self.v4.remove(key, length, None);
                    self.v4.insert(key, length, peer);
                }
                Operation::Add(peer, (Address::V6(key), length)) => {
                    self.v6.remove(key, length, None);
                    self.v6.insert(key, length, peer);
                }
                Operation::Remove(peer, (Address::V4(key), length)) => {
                    self.v4.remove(key, length, Some(peer));
                }
                Operation::Remove(peer, (Address::V6(key), length)) => {
                    self.v6.remove(key, length, Some(peer));
                }
            }
        }
        self.v4.forget_answers();
        self.v6.forget_answers();
    }

    /// Take every prefix from a peer.
    pub fn forget(&mut self, peer: Handle) {
        self.v4.forget(peer);
        self.v6.forget(peer);
        self.v4.forget_answers();
        self.v6.forget_answers();
    }

    /// The prefixes of a peer, sorted, IPv4 first.
    pub fn of(&self, peer: Handle) -> Vec<Prefix> {
        let v4 = self.v4.of(peer).into_iter().map(|(key, length)| (Address::V4(key), length));
        let v6 = self.v6.of(peer).into_iter().map(|(key, length)| (Address::V6(key), length));
        v4.chain(v6).collect()
    }
}

/// An address as a number of so many bits, the first bit the highest.
trait Bits: Copy + Ord + Default {
    const BITS: u8;
    fn bit(self, at: u8) -> usize;
    fn common(self, other: Self) -> u8;
    fn leading(self, length: u8) -> Self;
    fn slot(self) -> usize;
}

macro_rules! bits {
    ($type:ty, $folded:expr) => {
        impl Bits for $type {
            const BITS: u8 = <$type>::BITS as u8;
            #[inline]
            fn bit(self, at: u8) -> usize {
                (self >> (<Self as Bits>::BITS - 1 - at)) as usize & 1
            }
            #[inline]
            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
            fn leading(self, length: u8) -> Self {
                if length == 0 {
                    0
                } else {
                    self & (<$type>::MAX << (<Self as Bits>::BITS - length))
                }
            }
            #[inline]
            fn slot(self) -> usize {
                let folded: u64 = $folded(self);
                (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as usize
            }
        }
    };
}

bits!(u32, u64::from);
bits!(u128, |key: u128| (key >> 64) as u64 ^ key as u64);

const SLOTS: usize = 1 << 9;
const NONE: u32 = 0;

#[derive(Clone, Copy, Default)]
struct Node<K> {
    key: K,
    child: [u32; 2],
    owner: Handle,
    /// The owner's neighbouring prefixes.
    previous: u32,
    next: u32,
    length: u8,
}

/// Node 0 is none of the trie's: the root hangs on its first link, the free nodes on its second.
struct Trie<K> {
    nodes: Vec<Node<K>>,
    first: HashMap<Handle, u32>,
    /// Answers by a hash of the address; one of `None` is not known.
    cache: Vec<(K, Option<Handle>)>,
}

impl<K: Bits> Default for Trie<K> {
    fn default() -> Self {
        let cache = vec![(K::default(), None); SLOTS];
        Trie { nodes: vec![Node::default()], first: HashMap::new(), cache }
    }
}

impl<K: Bits> Trie<K> {
    #[inline]
    fn lookup(&mut self, key: K) -> Handle {
        let (cached, owner) = self.cache[key.slot()];
        if cached == key {
            if let Some(owner) = owner {
                return owner;
            }
        }
        let owner = self.find(key);
        self.cache[key.slot()] = (key, Some(owner));
        owner
    }

    fn forget_answers(&mut self) {
        self.cache.fill((K::default(), None));
    }

    fn find(&self, key: K) -> Handle {
        let mut best = NONE;
        let mut at = self.nodes[0].child[0];
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.key.common(key) < node.length {
                break;
            }
            if node.owner != NONE {
                best = node.owner;
            }
            if node.length == K::BITS {
                break;
            }
            at = node.child[key.bit(node.length)];
        }
        best
    }

    fn insert(&mut self, key: K, length: u8, owner: Handle) {
        let key = key.leading(length);
        let (mut parent, mut side) = (0u32, 0usize);
        let new = loop {
            let at = self.nodes[parent as usize].child[side];
            if at == NONE {
                let new = self.allocate(key, length);
                self.nodes[parent as usize].child[side] = new;
                break new;
            }
            let node = self.nodes[at as usize];
            let common = node.key.common(key).min(node.length).min(length);
            if common == node.length {
                if length == node.length {
                    break at;
                }
                (parent, side) = (at, key.bit(common));
                continue;
            }
            // The paths part within this node's: a node takes its place there.
            let fork = self.allocate(key.leading(common), common);
            self.nodes[fork as usize].child[node.key.bit(common)] = at;
            self.nodes[parent as usize].child[side] = fork;
            if common == length {
                break fork;
            }
            let new = self.allocate(key, length);
            self.nodes[fork as usize].child[key.bit(common)] = new;
            break new;
        };
        self.give(new, owner);
    }

    /// Take a prefix from its owner, or only from `expected`.
    fn remove(&mut self, key: K, length: u8, expected: Option<Handle>) {
        let key = key.leading(length);
        // The links on the way: a node, and the side on which its parent has it.
        let mut above = [(0u32, 0usize); 2];
        let mut at = self.nodes[0].child[0];
        let mut side = 0;
        let mut parent = 0;
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.length > length || node.key.common(key) < node.length {
                return;
            }
            above = [above[1], (parent, side)];
            if node.length == length {
                break;
            }
            (parent, side) = (at, key.bit(node.length));
            at = node.child[side];
        }
        let owner = self.nodes[at as usize].owner;
        if at == NONE || owner == NONE || expected.is_some_and(|peer| peer != owner) {
            return;
        }
        self.take(at);
        if self.collapse(at, above[1]) && above[1].0 != 0 {
            self.collapse(above[1].0, above[0]);
        }
    }

    /// Take out a node that has no owner and fewer than two children, which hangs on `link`.
    fn collapse(&mut self, at: u32, link: (u32, usize)) -> bool {
        let node = self.nodes[at as usize];
        if node.owner != NONE || node.child.iter().all(|&child| child != NONE) {
            return false;
        }
        self.nodes[link.0 as usize].child[link.1] = node.child[0] | node.child[1];
        self.nodes[at as usize] = Node { child: [NONE, self.nodes[0].child[1]], ..Node::default() };
        self.nodes[0].child[1] = at;
        true
    }

    fn allocate(&mut self, key: K, length: u8) -> u32 {
        let node = Node { key, length, ..Node::default() };
        let free = self.nodes[0].child[1];
        if free == NONE {
            self.nodes.push(node);
            return (self.nodes.len() - 1) as u32;
        }
        self.nodes[0].child[1] = self.nodes[free as usize].child[1];
        self.nodes[free as usize] = node;
        free
    }

    /// Put a node on its owner's list.
    fn give(&mut self, at: u32, owner: Handle) {
        let next = self.first.insert(owner, at).unwrap_or(NONE);
        if next != NONE {
            self.nodes[next as usize].previous = at;
        }
        let node = &mut self.nodes[at as usize];
        node.owner = owner;
        node.previous = NONE;
        node.next = next;
    }

    /// Take a node off its owner's list.
    fn take(&mut self, at: u32) {
        let Node { owner, previous, next, .. } = self.nodes[at as usize];
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
        } else if next != NONE {
            self.first.insert(owner, next);
        } else {
            self.first.remove(&owner);
        }
        self.nodes[at as usize].owner = NONE;
    }

    fn forget(&mut self, peer: Handle) {
        for (key, length) in self.of(peer) {
            self.remove(key, length, Some(peer));
        }
    }

    fn of(&self, peer: Handle) -> Vec<(K, u8)> {
        let mut found = Vec::new();
        let mut at = self.first.get(&peer).copied().unwrap_or(NONE);
        while at != NONE {
            let node = &self.nodes[at as usize];
            found.push((node.key, node.length));
            at = node.next;
        }
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A step: whether to add, who, address and length. Few bits, so that prefixes meet.
    type Step = (u8, Handle, u8, u8);

    fn address(bits: u8) -> u32 {
        u32::from(bits & 0xF0) << 24 | u32::from(bits & 0x0F)
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec((0u8..8, 1u32..4, any::<u8>(), 0u8..=32), 1..120),
            asked in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let mut table = AllowedIps::default();
            let mut model: BTreeMap<(u32, u8), Handle> = BTreeMap::new();
            for (kind, peer, bits, length) in steps as Vec<Step> {
                let key = address(bits).leading(length);
                let prefix = (Address::V4(address(bits)), length);
                match kind {
                    0 => {
                        table.apply(&[Operation::Replace(peer)]);
                        model.retain(|_, owner| *owner != peer);
                    }
                    1 | 2 => {
                        table.apply(&[Operation::Remove(peer, prefix)]);
                        if model.get(&(key, length)) == Some(&peer) {
                            model.remove(&(key, length));
                        }
                    }
                    _ => {
                        table.apply(&[Operation::Add(peer, prefix)]);
                        model.insert((key, length), peer);
                    }
                }
                for &bits in &asked {
                    let wanted = address(bits);
                    let best = model
                        .iter()
                        .filter(|((key, length), _)| wanted.leading(*length) == *key)
                        .max_by_key(|((_, length), _)| *length)
                        .map_or(NONE, |(_, owner)| *owner);
                    prop_assert_eq!(table.lookup(Address::V4(wanted)), best);
                    prop_assert_eq!(table.v4.find(wanted), best);
                }
                for peer in 1..4 {
                    let owned: Vec<_> = model
                        .iter()
                        .filter(|(_, owner)| **owner == peer)
                        .map(|((key, length), _)| (Address::V4(*key), *length))
                        .collect();
                    prop_assert_eq!(table.of(peer), owned);
                }
            }
            // Whatever was taken out is used again: at most two nodes to a prefix at any time.
            let free = std::iter::successors(Some(table.v4.nodes[0].child[1]), |&at| {
                (at != NONE).then(|| table.v4.nodes[at as usize].child[1])
            });
            let used = table.v4.nodes.len() - free.filter(|&at| at != NONE).count() - 1;
            prop_assert!(used <= (2 * model.len()).saturating_sub(1));
        }
    }

    #[test]
    fn many_prefixes() {
        let mut table = AllowedIps::default();
        let add = |number: u32| {
            Operation::Add(number % 1000 + 1, (Address::V6(u128::from(number) << 64), 64))
        };
        table.apply(&(0..130_000).map(add).collect::<Vec<_>>());
        for number in 0..130_000 {
            let address = Address::V6(u128::from(number) << 64 | 5);
            assert_eq!(table.lookup(address), number % 1000 + 1);
        }
        assert_eq!(table.of(7).len(), 130);
        (1..=1000).for_each(|peer| table.forget(peer));
        assert_eq!(table.v6.nodes[0].child[0], NONE);
    }
}
