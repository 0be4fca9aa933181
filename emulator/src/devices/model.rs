//! What the devices' product is modelled as: properties of all types that a model (TSL) has, and events. As in the
//! platform's models a bool is 0 or 1, an enum a whole number, and a float has a decimal place in any case.

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::pen::{Pen, digits};

/// Places, as people call them.
const PLACES: [&str; 4] = ["3号配电房", "一号车间（东）", "Zürich", "屋顶 🔆"];

/// One of the places.
pub(super) fn place(rng: &mut SmallRng) -> &'static str {
    PLACES[rng.random_range(0..PLACES.len())]
}

/// A property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    /// Text, as in the vendor's examples. Every post has it.
    Power,
    /// A float.
    Temperature,
    /// A struct, as in the vendor's examples.
    Position,
    /// A bool.
    Locked,
    /// An enum.
    Mode,
    /// An array.
    Currents,
    /// Text, hardly ever ASCII.
    Place,
}

impl Property {
    /// Those that are not in every post.
    pub(super) const SOME: [Self; 6] =
        [Self::Temperature, Self::Position, Self::Locked, Self::Mode, Self::Currents, Self::Place];

    pub(super) fn identifier(self) -> &'static str {
        match self {
            Self::Power => "Power",
            Self::Temperature => "Temperature",
            Self::Position => "Position",
            Self::Locked => "Locked",
            Self::Mode => "Mode",
            Self::Currents => "Currents",
            Self::Place => "Place",
        }
    }

    /// One post of so many has it.
    pub(super) fn one_of(self) -> u32 {
        match self {
            Self::Power => 1,
            Self::Temperature => 2,
            Self::Position | Self::Locked | Self::Mode => 4,
            Self::Currents | Self::Place => 8,
        }
    }

    /// Writes a value of it.
    pub(super) fn write(self, pen: &mut Pen, rng: &mut SmallRng) {
        match self {
            Self::Power => pen.write(&[if rng.random_bool(0.75) { "\"on\"" } else { "\"off\"" }]),
            Self::Temperature => write_float(pen, rng.random_range(150..400)),
            Self::Position => write_position(pen, rng),
            Self::Locked => pen.write(&[&digits(rng.random_range(0..2_u32))]),
            Self::Mode => pen.write(&[&digits(rng.random_range(0..5_u32))]),
            Self::Currents => {
                for before in ["[", ",", ","] {
                    pen.write(&[before]);
                    write_float(pen, rng.random_range(0..320));
                }
                pen.write(&["]"]);
            }
            Self::Place => pen.write(&["\"", place(rng), "\""]),
        }
    }
}

/// So many tenths.
fn write_float(pen: &mut Pen, tenths: u32) {
    pen.write(&[&digits(tenths / 10), ".", &digits(tenths % 10)]);
}

/// Somewhere in a town.
fn write_position(pen: &mut Pen, rng: &mut SmallRng) {
    let [north, east] = [(); 2].map(|()| digits(rng.random_range(10..100_u32)));
    pen.write(&["{\"latitude\":39.9", &north, ",\"longitude\":116.3", &east, "}"]);
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    BrokenInfo,
    Overload,
    LowBattery,
}

impl Event {
    const ALL: [Self; 3] = [Self::BrokenInfo, Self::Overload, Self::LowBattery];

    /// One of them.
    pub(super) fn draw(rng: &mut SmallRng) -> Self {
        Self::ALL[rng.random_range(0..Self::ALL.len())]
    }

    /// The identifier; that of an event of a module is `module:event`.
    pub(super) fn identifier(self) -> &'static str {
        match self {
            Self::BrokenInfo => "BrokenInfo",
            Self::Overload => "meter:Overload",
            Self::LowBattery => "LowBattery",
        }
    }

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BrokenInfo => "损坏率上报",
            Self::Overload => "过载告警",
            Self::LowBattery => "Low battery",
        }
    }

    /// One of the three types that there are.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::BrokenInfo => "info",
            Self::Overload => "alert",
            Self::LowBattery => "error",
        }
    }

    /// Writes its parameters.
    pub(super) fn write(self, pen: &mut Pen, rng: &mut SmallRng) {
        match self {
            Self::BrokenInfo => {
                pen.write(&["{\"Power\":"]);
                Property::Power.write(pen, rng);
                pen.write(&[",\"Position\":"]);
                write_position(pen, rng);
            }
            Self::Overload => {
                pen.write(&["{\"Current\":"]);
                write_float(pen, rng.random_range(320..640));
                pen.write(&[",\"Place\":\"", place(rng), "\""]);
            }
            Self::LowBattery => pen.write(&["{\"Level\":", &digits(rng.random_range(0..20_u32))]),
        }
        pen.write(&["}"]);
    }
}
