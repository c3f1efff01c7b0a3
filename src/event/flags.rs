//! What is unusual about an event, as a set (EVENT.md, `flags`).

/// The flags of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

macro_rules! flags {
    ($($bit:literal $constant:ident $name:literal $what:literal;)*) => {
        impl Flags {
            $(#[doc = $what] pub const $constant: Self = Self(1 << $bit);)*
            /// Every flag with its name in events and its meaning.
            pub const ALL: &'static [(Self, &'static str, &'static str)] = &[$((Self::$constant, $name, $what)),*];
        }
    };
}

flags! {
    0 TRUNCATED "truncated" "The source cut the record; what was left is stored.";
    1 MASKED "masked" "A secret was masked before anything saw it.";
    2 LATE "late" "Older than the ids that are kept; it may be a repeat.";
    3 CONFLICT "conflict" "Another stored event has the same `_id` and says something else.";
    4 ACCOUNT_MISMATCH "account_mismatch" "The record's account is not the one in its object's key.";
    5 CLOCK_SKEW "clock_skew" "The event time is more than ten minutes in the future.";
    6 NO_EVENT_TIME "no_event_time" "The record states no time; the time of collection stands in.";
    7 DUPLICATE_KEY "duplicate_key" "An object of the record has a key twice; the last one counts.";
    8 CORRECTION "correction" "A `CloudTrail` addendum that replaces fields of an earlier record.";
    9 SOURCE_NOT_IP "source_not_ip" "The source address is a service or a name.";
    10 BACKFILLED "backfilled" "Collected by a backfill.";
}

impl Flags {
    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(flag, ..)| self.contains(*flag)).map(|(_, name, _)| *name)
    }

    /// The flag of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, it, _)| *it == name).map(|(flag, ..)| *flag)
    }
}
