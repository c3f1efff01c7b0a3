//! Keys by a hash that ignores ASCII case: which ones to look out for, and which were there before.

/// Keys to look out for, without regard to case: a filter, so a hit may be a false one.
#[derive(Debug, Clone)]
pub struct KeySet {
    bits: [u64; 64],
}

impl KeySet {
    /// A set that watches these keys.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        let mut bits = [0; 64];
        for key in keys {
            let bit = key_hash(key.as_bytes()) as usize & 4095;
            bits[bit / 64] |= 1 << (bit % 64);
        }
        Self { bits }
    }

    #[inline]
    pub(super) fn may_hold(&self, hash: u32) -> bool {
        let bit = hash as usize & 4095;
        self.bits[bit / 64] >> (bit % 64) & 1 == 1
    }
}

/// The keys of one object so far, as two small sets by different bits of their hashes: a key that is not in both is new.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen([u64; 2]);

impl Seen {
    /// Puts a key in. False: it is new; true: it may have been there.
    #[inline]
    pub(super) fn put(&mut self, hash: u32) -> bool {
        let bits = [1 << (hash & 63), 1 << (hash >> 6 & 63)];
        let may_repeat = self.0[0] & bits[0] != 0 && self.0[1] & bits[1] != 0;
        self.0 = [self.0[0] | bits[0], self.0[1] | bits[1]];
        may_repeat
    }
}

/// A hash of a key that ignores ASCII case, from its first and last eight bytes and its length.
pub const fn key_hash(key: &[u8]) -> u32 {
    let (head, tail) = if let (Some(head), Some(tail)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
    } else {
        let (mut word, mut n) = (0, key.len());
        while n > 0 {
            n -= 1;
            word = word << 8 | key[n] as u64;
        }
        (word, word)
    };
    mixed(head, tail, key.len())
}

/// [`key_hash`] of `buf[start..end]`, without a branch on how long it is where there are eight bytes on either side.
#[inline]
pub(super) fn key_hash_in(buf: &[u8], start: usize, end: usize) -> u32 {
    let head = buf.get(start..).and_then(<[u8]>::first_chunk::<8>);
    let tail = buf.get(..end).and_then(<[u8]>::last_chunk::<8>);
    let length = end - start;
    match (head, tail, length) {
        (Some(head), Some(tail), 1..) => {
            let left_out = 64 - 8 * length.min(8) as u32;
            mixed(u64::from_le_bytes(*head) << left_out >> left_out, u64::from_le_bytes(*tail) >> left_out, length)
        }
        _ => key_hash(&buf[start..end]),
    }
}

#[inline]
const fn mixed(head: u64, tail: u64, length: usize) -> u32 {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let mixed = ((head | FOLD) ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (tail | FOLD).rotate_left(32).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    (mixed ^ mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_hash_wherever_it_stands() {
        let text = b"{\"a\":1,\"eventName\":2,\"EVENTNAME\":3,\"\":4,\"requestParameters\":5}";
        for (start, end) in [(2, 3), (8, 17), (22, 31), (36, 36), (41, 58)] {
            assert_eq!(key_hash_in(text, start, end), key_hash(&text[start..end]), "{start}");
        }
        assert_eq!(key_hash(b"eventName"), key_hash(b"EVENTNAME"));
        assert_eq!(key_hash_in(b"abc", 0, 3), key_hash(b"abc"));
    }
}
