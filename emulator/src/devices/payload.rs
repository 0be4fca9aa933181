//! The payloads, kind by kind, as PLATFORM.md 3 has them. They are put together from pieces in one buffer. Every one says
//! when it was published, so that its latency can be measured: a property post in an item `sentAtUs` whose value is Unix
//! µs, the others in a field of that name.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use rand::Rng as _;
use rand::rngs::SmallRng;

use super::kind::Batch;
use super::life::StatusChange;
use super::names::{Name, Names, quoted};
use super::time::{self, Moment};
use super::topology;

/// How much is allocated at a time.
const BUFFER: usize = 64 * 1024;

/// A number, written out without an allocation.
struct Digits {
    bytes: [u8; 10],
    from: usize,
}

fn digits(mut number: u32) -> Digits {
    let mut digits = Digits { bytes: [b'0'; 10], from: 10 };
    loop {
        digits.from -= 1;
        digits.bytes[digits.from] += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return digits;
        }
    }
}

impl Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.bytes[self.from..]).unwrap_or_default()
    }
}

/// Writes one payload after the other.
#[derive(Debug, Default)]
pub(super) struct Pen {
    buffer: BytesMut,
}

impl Pen {
    pub(super) fn write(&mut self, parts: &[&str]) {
        for part in parts {
            self.buffer.extend_from_slice(part.as_bytes());
        }
    }

    pub(super) fn write_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The payload that is ready.
    pub(super) fn take(&mut self) -> Bytes {
        let payload = self.buffer.split().freeze();
        if self.buffer.capacity() < BUFFER / 64 {
            self.buffer.reserve(BUFFER);
        }
        payload
    }
}

/// What all payloads are made with.
pub(super) struct Writer<'a> {
    pub(super) pen: &'a mut Pen,
    pub(super) at: &'a Moment,
    pub(super) names: &'a Names,
    pub(super) rng: &'a mut SmallRng,
}

impl Writer<'_> {
    /// `,"sentAtUs":…}`, and that was it.
    fn end(&mut self) {
        self.pen.write(&[",\"sentAtUs\":", &self.at.us_text, "}"]);
    }

    /// Row a: the device's own words.
    pub(super) fn custom(&mut self, name: &Name) {
        self.pen.write(&["{\"hello\":\"", &name.device, "\""]);
        self.end();
    }

    /// Row b. `offlineReasonCode` is a number here, as in the vendor's examples.
    pub(super) fn status(&mut self, name: &Name, change: StatusChange) {
        let status = if change.online { "online" } else { "offline" };
        let (at, last) = (change.at_ms, change.last_ms);
        let reason = change.reason.map(|code| format!(",\"offlineReasonCode\":{code}")).unwrap_or_default();
        let times = [time::local(at), time::utc(at), time::local(last), time::utc(last)];
        let [time, utc_time, last_time, utc_last_time] = &times;
        let host = digits(change.device % 254 + 1);
        self.pen.write(&["{\"status\":\"", status, "\",", &name.who, reason.as_str(), ",\"time\":\"", time]);
        self.pen.write(&["\",\"utcTime\":\"", utc_time, "\",\"lastTime\":\"", last_time, "\",\"utcLastTime\":\""]);
        self.pen.write(&[utc_last_time, "\",\"clientIp\":\"203.0.113.", &host, "\""]);
        self.end();
    }

    /// Rows c and k: the values of properties, at `time_ms`, filled up to `size` bytes.
    pub(super) fn properties(&mut self, name: &Name, time_ms: &str, size: usize) {
        let power = digits(self.rng.random_range(0..2_000));
        let temperature = self.rng.random_range(150..400);
        let (whole, tenth) = (digits(temperature / 10), digits(temperature % 10));
        let start = self.pen.len();
        self.pen.write(&[
            "{",
            &name.who,
            ",\"gmtCreate\":",
            &self.at.ms_text,
            ",\"deviceType\":\"Ammeter\",\"items\":",
        ]);
        self.pen.write(&["{\"Power\":{\"value\":", &power, ",\"time\":", time_ms, "},\"Temperature\":{\"value\":"]);
        self.pen.write(&[&whole, ".", &tenth, ",\"time\":", time_ms, "},\"sentAtUs\":{\"value\":", &self.at.us_text]);
        self.pen.write(&[",\"time\":", time_ms, "}"]);
        let tail = "},\"checkFailedData\":{}}";
        // `,"Note":{"value":"…","time":1573489088171}` around the filling.
        let frame = 28 + time_ms.len();
        let written = self.pen.len() - start;
        if let Some(filling) = size.checked_sub(written + tail.len() + frame) {
            self.pen.write(&[",\"Note\":{\"value\":\""]);
            self.pen.buffer.resize(self.pen.len() + filling, b' ');
            self.pen.write(&["\",\"time\":", time_ms, "}"]);
        }
        self.pen.write(&[tail]);
    }

    /// Rows d and l: an event, at `time_ms`. One in sixteen has a value that its model does not know.
    pub(super) fn event(&mut self, name: &Name, identifier: &str, time_ms: &str) {
        let rate = digits(self.rng.random_range(0..100));
        let failed = if self.rng.random_range(0..16) == 0 {
            r#"{"value":{"type":"onMapTrace"},"code":6304,"message":"tsl parse: params not exist -> type"}"#
        } else {
            "{}"
        };
        self.pen.write(&["{\"identifier\":\"", identifier, "\",\"name\":\"damage report\",\"type\":\"info\","]);
        self.pen.write(&[&name.who, ",\"gmtCreate\":", &self.at.ms_text, ",\"value\":{\"rate\":", &rate, "}"]);
        self.pen.write(&[",\"checkFailedData\":", failed, ",\"time\":", time_ms]);
        self.end();
    }

    /// Row e. The names of its fields are not certain, nor whether it has an `iotId`.
    pub(super) fn batch(&mut self, name: &Name, batch: Batch) {
        let identifier = match batch {
            Batch::Properties => "Power",
            Batch::Events => "BrokenInfo",
        };
        let request = digits(self.rng.random_range(0..1_000_000));
        self.pen.write(&["{", &name.who, ",\"requestId\":\"", &request, "\",\"payload\":{\"", identifier, "\":["]);
        let now_ms = self.at.ms();
        let values = self.rng.random_range(2..6_u32);
        for index in (0..values).rev() {
            let value = digits(self.rng.random_range(0..100));
            let (open, close) = if batch == Batch::Events { ("{\"rate\":", "}") } else { ("", "") };
            let time = (now_ms.saturating_sub(u64::from(index) * 1_000)).to_string();
            self.pen.write(&[
                "{\"value\":",
                open,
                &value,
                close,
                ",\"time\":",
                &time,
                if index == 0 { "}" } else { "}," },
            ]);
        }
        self.pen.write(&["]}"]);
        self.end();
    }

    /// Row f. `requestId` is a number, as documented.
    pub(super) fn reply(&mut self, name: &Name) {
        let (code, message) = match self.rng.random_range(0..32) {
            0 => ("460", "request parameter error"),
            1 => ("429", "too many requests"),
            2 => ("9201", "device offline"),
            _ => ("200", "success"),
        };
        let request = digits(self.rng.random_range(0..1_000_000));
        let topic = quoted(&["/sys", &name.prefix, "thing/service/property/set"].concat());
        self.pen.write(&["{\"gmtCreate\":", &self.at.ms_text, ",", &name.who, ",\"requestId\":", &request]);
        self.pen.write(&[",\"code\":", code, ",\"message\":\"", message, "\",\"topic\":", &topic, ",\"data\":{}"]);
        self.pen.write(&[",\"checkFailedData\":{}"]);
        self.end();
    }

    /// Row g. A creation tells the device's secret.
    pub(super) fn lifecycle(&mut self, name: &Name, action: super::life::Action) {
        let secret = if action == super::life::Action::Create {
            let bits: u128 = self.rng.random();
            format!("{bits:032x}")
        } else {
            String::new()
        };
        self.pen.write(&["{\"action\":\"", action.as_str(), "\",", &name.who, ",\"deviceSecret\":\"", &secret, "\""]);
        self.created();
        self.end();
    }

    fn created(&mut self) {
        self.pen.write(&[",\"messageCreateTime\":", &self.at.ms_text]);
    }

    fn gateway(&mut self, gateway: &Name) {
        let (id, product) = (quoted(&gateway.iot_id), quoted(self.names.product()));
        self.pen.write(&["\"gwIotId\":", &id, ",\"gwProductKey\":", &product, ",\"gwDeviceName\":\"", &gateway.device]);
        self.pen.write(&["\",\"devices\":["]);
    }

    fn devices(&mut self, devices: &[u32]) {
        for (place, device) in devices.iter().enumerate() {
            let name = self.names.get(*device);
            self.pen.write(&[if place == 0 { "{" } else { ",{" }, &name.who, "}"]);
        }
        self.pen.write(&["]"]);
    }

    /// Row h.
    pub(super) fn topology(&mut self, gateway: &Name, change: &topology::Change) {
        self.pen.write(&["{\"action\":\"", change.action.as_str(), "\","]);
        self.gateway(gateway);
        self.devices(&change.devices);
        self.created();
        self.end();
    }

    /// Row i.
    pub(super) fn found(&mut self, gateway: &Name, devices: &[u32]) {
        self.pen.write(&["{"]);
        self.gateway(gateway);
        self.devices(devices);
        self.end();
    }

    /// Row j.
    pub(super) fn tags(&mut self, name: &Name) {
        let room = digits(self.rng.random_range(1..20));
        self.pen.write(&["{", &name.who, ",\"value\":[{\"attrKey\":\"room\",\"attrValue\":\"", &room, "\"}]"]);
        self.created();
        self.end();
    }

    /// Row m.
    pub(super) fn ota_result(&mut self, name: &Name, job: &str) {
        let (status, words) = match self.rng.random_range(0..10) {
            0 => ("FAILED", "verification failed"),
            1 => ("CANCELED", "canceled"),
            _ => ("SUCCEEDED", "success"),
        };
        let source = digits(self.rng.random_range(0..9));
        self.pen.write(&["{", &name.who, ",\"status\":\"", status, "\",\"srcVersion\":\"1.", &source, ".0\""]);
        self.pen.write(&[",\"destVersion\":\"2.0.0\",\"desc\":\"", words, "\",\"jobId\":\"", job, "\""]);
        self.task(name, job);
        self.created();
        self.end();
    }

    fn task(&mut self, name: &Name, job: &str) {
        self.pen.write(&[",\"taskId\":\"", job, "-", &name.device, "\""]);
    }

    /// Row n. What is in it is not known: this is what a device reports by the protocol for devices, with the fields that
    /// the other messages about updates have.
    pub(super) fn ota_progress(&mut self, name: &Name, job: &str) {
        let step = digits(self.rng.random_range(0..=100));
        self.pen.write(&["{", &name.who, ",\"moduleName\":\"default\",\"step\":\"", &step, "\",\"desc\":\"\""]);
        self.pen.write(&[",\"jobId\":\"", job, "\""]);
        self.task(name, job);
        self.created();
        self.end();
    }

    /// Row o.
    pub(super) fn ota_version(&mut self, name: &Name) {
        let version = digits(self.rng.random_range(0..100));
        self.pen.write(&["{", &name.who, ",\"moduleName\":\"default\",\"moduleVersion\":\"2.", &version, ".0\""]);
        self.created();
        self.end();
    }

    /// Row p.
    pub(super) fn ota_job(&mut self, package: &str, job: &str, status: &str) {
        let product = quoted(self.names.product());
        self.pen.write(&["{\"productKey\":", &product, ",\"moduleName\":\"default\",\"packageId\":\"", package]);
        self.pen.write(&["\",\"jobId\":\"", job, "\",\"status\":\"", status, "\""]);
        self.created();
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 99, 100, 65_536, u32::MAX] {
            assert_eq!(&*digits(number), number.to_string());
        }
    }
}
