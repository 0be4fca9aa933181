//! The payloads, kind by kind, as PLATFORM.md 3 has them. They are put together from pieces in one buffer. Every one says
//! when it was published, so that its latency can be measured: a property post in an item `sentAtUs` whose value is Unix
//! µs, the others in a field of that name.

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::ids;
use super::kind::Batch;
use super::life::{Action, StatusChange, Unreached};
use super::model::{self, Event, Property};
use super::names::{Name, Names, quoted};
use super::pen::{Pen, digits};
use super::time::{self, Moment};
use super::topology;

/// One message of so many tells of something that the devices' model does not know.
const FAILED_AMONG: u32 = 16;
/// The end of a property post.
const PROPERTIES_END: &str = "},\"checkFailedData\":{}}";
/// How long ago a device may have learnt where it is, in ms.
const POSITION_AGE_MS: u64 = 60_000;
/// What devices say in words of their own: some escape what is not ASCII.
const WORDS: [&str; 4] = ["all well", "水位正常", r"\u6c34\u4f4d\u6b63\u5e38", "过热 🔥"];

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

    /// Whether it is one of so many.
    fn is_one_of(&mut self, many: u32) -> bool {
        self.rng.random_range(0..many) == 0
    }

    /// Row a: the device's own words.
    pub(super) fn custom(&mut self, name: &Name, error: bool) {
        let words = if error { "传感器无响应" } else { WORDS[self.rng.random_range(0..WORDS.len())] };
        self.pen.write(&["{\"hello\":\"", &name.device, "\",\"words\":\"", words, "\""]);
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

    /// Rows c and k: the values of properties, at `time_ms`. A post of a certain `size` has as many as fit, and is filled
    /// up to it. A `requestId` is in some: whether the platform's have one is not certain.
    pub(super) fn properties(&mut self, name: &Name, time_ms: u64, size: usize) {
        let start = self.pen.len();
        let end = if size == 0 { usize::MAX } else { start + size };
        self.pen.write(&["{", &name.who]);
        if self.is_one_of(4) {
            self.pen.write(&[",\"requestId\":\"", &digits(self.rng.random_range(0..1_000_000_u32)), "\""]);
        }
        let time = digits(time_ms);
        self.pen.write(&[",\"gmtCreate\":", &self.at.ms_text, ",\"deviceType\":\"Ammeter\",\"items\":{"]);
        self.pen.write(&["\"sentAtUs\":{\"value\":", &self.at.us_text, ",\"time\":", &time, "}"]);
        self.property(Property::Power, time_ms);
        let note = if size > 0 { self.note(&time, end) } else { None };
        for property in Property::SOME {
            if self.is_one_of(property.one_of()) {
                let before = self.pen.len();
                self.property(property, time_ms);
                if self.pen.len() + PROPERTIES_END.len() > end {
                    self.pen.cut(before);
                }
            }
        }
        let before = self.pen.len();
        let failed = self.is_one_of(FAILED_AMONG);
        if failed {
            self.failed_property(&time);
        }
        if !failed || self.pen.len() > end {
            self.pen.cut(before);
            self.pen.write(&[PROPERTIES_END]);
        }
        if let Some(note) = note {
            self.pen.pad(note, end.saturating_sub(self.pen.len()));
        }
    }

    /// `,"Power":{"value":"on","time":1573489088171}`.
    fn property(&mut self, property: Property, time_ms: u64) {
        self.pen.write(&[",\"", property.identifier(), "\":{\"value\":"]);
        property.write(self.pen, self.rng);
        let age_ms = if property == Property::Position { self.rng.random_range(0..POSITION_AGE_MS) } else { 0 };
        self.pen.write(&[",\"time\":", &digits(time_ms.saturating_sub(age_ms)), "}"]);
    }

    /// A property with an empty text, and where the text goes; nothing if that is too long.
    fn note(&mut self, time: &str, end: usize) -> Option<usize> {
        let before = self.pen.len();
        self.pen.write(&[",\"Note\":{\"value\":\""]);
        let text = self.pen.len();
        self.pen.write(&["\",\"time\":", time, "}"]);
        if self.pen.len() + PROPERTIES_END.len() <= end {
            return Some(text);
        }
        self.pen.cut(before);
        None
    }

    /// The end of a property post with a property that the model does not know. By its identifier, not as in an event.
    fn failed_property(&mut self, time: &str) {
        let [number, value] = [10_u32, 1_000_000_000].map(|below| digits(self.rng.random_range(0..below)));
        self.pen.write(&["},\"checkFailedData\":{\"attribute_", &number, "\":{\"time\":", time, ",\"value\":", &value]);
        self.pen.write(&[",\"code\":6304,\"message\":\"tsl parse: params not exist -> attribute_", &number, "\"}}}"]);
    }

    /// Rows d and l: an event, at `time_ms`.
    pub(super) fn event(&mut self, name: &Name, event: Event, time_ms: u64) {
        let time = digits(time_ms);
        self.pen.write(&["{\"identifier\":\"", event.identifier(), "\",\"name\":\"", event.name()]);
        self.pen.write(&["\",\"type\":\"", event.kind(), "\",", &name.who, ",\"gmtCreate\":", &self.at.ms_text]);
        self.pen.write(&[",\"value\":"]);
        event.write(self.pen, self.rng);
        let unknown = ["{\"type\":\"onMapTrace\",\"content\":\"偏离轨迹\",\"timestamp\":\"", &time, "\"}"];
        self.failed(&unknown, "type");
        self.pen.write(&[",\"time\":", &time]);
        self.end();
    }

    /// `,"checkFailedData":…` of an event or a reply; mostly empty.
    fn failed(&mut self, value: &[&str], unknown: &str) {
        self.pen.write(&[",\"checkFailedData\":{"]);
        if self.is_one_of(FAILED_AMONG) {
            self.pen.write(&["\"value\":"]);
            self.pen.write(value);
            self.pen.write(&[",\"code\":6304,\"message\":\"tsl parse: params not exist -> ", unknown, "\""]);
        }
        self.pen.write(&["}"]);
    }

    /// Row e. The names of its fields are not certain, nor whether it has an `iotId`.
    pub(super) fn batch(&mut self, name: &Name, batch: Batch) {
        let request = digits(self.rng.random_range(0..1_000_000_u32));
        self.pen.write(&["{", &name.own, ",\"requestId\":\"", &request, "\",\"payload\":{"]);
        match batch {
            Batch::Properties => {
                self.values("\"", Property::Power.identifier(), |pen, rng| Property::Power.write(pen, rng));
                let other = Property::SOME[self.rng.random_range(0..Property::SOME.len())];
                self.values(",\"", other.identifier(), |pen, rng| other.write(pen, rng));
            }
            Batch::Events => {
                let event = Event::draw(self.rng);
                self.values("\"", event.identifier(), |pen, rng| event.write(pen, rng));
            }
        }
        self.pen.write(&["}"]);
        self.end();
    }

    /// `"Power":[{"value":"on","time":1573489088171},…]`: what was a second ago, and before.
    fn values(&mut self, before: &str, identifier: &str, write: impl Fn(&mut Pen, &mut SmallRng)) {
        self.pen.write(&[before, identifier, "\":["]);
        for age in (0..self.rng.random_range(2..6_u64)).rev() {
            self.pen.write(&["{\"value\":"]);
            write(self.pen, self.rng);
            let time = digits(self.at.ms().saturating_sub(age * 1_000));
            self.pen.write(&[",\"time\":", &time, if age == 0 { "}]" } else { "}," }]);
        }
    }

    /// Row f: what a device answers, or that it could not be asked. `requestId` is a number, as documented.
    pub(super) fn reply(&mut self, name: &Name, unreached: Option<Unreached>) {
        let (code, message) = match (unreached, self.rng.random_range(0..32)) {
            (Some(Unreached::Unactive), _) => ("9200", "device not actived"),
            (Some(Unreached::Offline), _) => ("9201", "device offline"),
            (None, 0) => ("400", "request error"),
            (None, 1) => ("403", "request forbidden"),
            (None, 2) => ("429", "too many requests"),
            (None, 3) => ("460", "request parameter error"),
            (None, _) => ("200", "success"),
        };
        let service = if self.rng.random_bool(0.5) { "property/set" } else { "TakePicture" };
        let [request, picture] = [1_000_000_u32, 100_000_000].map(|below| digits(self.rng.random_range(0..below)));
        let topic = quoted(&["/sys", &name.prefix, "thing/service/", service].concat());
        self.pen.write(&["{\"gmtCreate\":", &self.at.ms_text, ",", &name.who, ",\"requestId\":", &request]);
        self.pen.write(&[",\"code\":", code, ",\"message\":\"", message, "\",\"topic\":", &topic, ",\"data\":{"]);
        if code == "200" && service == "TakePicture" {
            self.pen.write(&["\"Place\":\"", model::place(self.rng), "\""]);
        }
        self.pen.write(&["}"]);
        if code == "200" {
            self.failed(&["{\"PicID\":\"", &picture, "\"}"], "PicID");
        } else {
            self.pen.write(&[",\"checkFailedData\":{}"]);
        }
        self.end();
    }

    /// Row g. A creation tells the device's secret.
    pub(super) fn lifecycle(&mut self, name: &Name, action: Action) {
        self.pen.write(&["{\"action\":\"", action.as_str(), "\",", &name.who]);
        if action == Action::Create {
            let bits: u128 = self.rng.random();
            self.pen.write(&[",\"deviceSecret\":\"", &format!("{bits:032x}"), "\""]);
        }
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
        let room = digits(self.rng.random_range(1..20_u32));
        self.pen.write(&["{", &name.who, ",\"value\":[{\"attrKey\":\"room\",\"attrValue\":\"", &room, "\"}"]);
        if self.rng.random_bool(0.5) {
            self.pen.write(&[",{\"attrKey\":\"place\",\"attrValue\":\"", model::place(self.rng), "\"}"]);
        }
        self.pen.write(&["]"]);
        self.created();
        self.end();
    }

    /// Row m.
    pub(super) fn ota_result(&mut self, name: &Name, job: &str) {
        let (status, words) = match self.rng.random_range(0..10) {
            0 => ("FAILED", "固件校验失败"),
            1 => ("CANCELED", "canceled"),
            _ => ("SUCCEEDED", "success"),
        };
        self.pen.write(&["{", &name.who, ",\"status\":\"", status, "\""]);
        self.update(name, job, words);
    }

    /// From which version to which, and why: `,"srcVersion":…,"taskId":…}`.
    fn update(&mut self, name: &Name, job: &str, words: &str) {
        let (source, task) = (digits(self.rng.random_range(0..9_u32)), ids::task(job, &name.device));
        self.created();
        self.pen.write(&[",\"srcVersion\":\"1.", &source, ".0\",\"destVersion\":\"2.0.0\",\"desc\":\"", words]);
        self.pen.write(&["\",\"jobId\":\"", job, "\",\"taskId\":\"", &task, "\""]);
        self.end();
    }

    /// Row n. What is in it is not known: this is what a device reports by the protocol for devices, with the fields that
    /// the other messages about updates have.
    pub(super) fn ota_progress(&mut self, name: &Name, job: &str) {
        let step = digits(self.rng.random_range(0..=100_u32));
        self.pen.write(&["{", &name.who, ",\"moduleName\":\"default\",\"step\":\"", &step, "\""]);
        self.update(name, job, "下载中");
    }

    /// Row o.
    pub(super) fn ota_version(&mut self, name: &Name) {
        let version = digits(self.rng.random_range(0..100_u32));
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
