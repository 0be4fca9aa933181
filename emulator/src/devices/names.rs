//! The names of a crowd's devices, in every form that messages need them in, made once.

use super::ids;

/// One device's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// The device's own: `device-0001`.
    pub(crate) device: String,
    /// The one that the platform gave it.
    pub(crate) iot_id: String,
    /// `"iotId":"…","productKey":"…","deviceName":"…"`.
    pub(super) who: String,
    /// The same without the first: `"productKey":"…","deviceName":"…"`.
    pub(super) own: String,
    /// The beginning of its topics: `/${productKey}/${deviceName}/`.
    pub(super) prefix: String,
    /// The topic of its status.
    pub(super) status: String,
}

/// Those of all devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    product: String,
    list: Vec<Name>,
}

/// Text as JSON writes it, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Names {
    pub(crate) fn new(product: &str, count: u32) -> Self {
        let list = (0..count).map(|index| {
            let device = format!("device-{index:04}");
            let iot_id = ids::device(product, index);
            let own = format!(r#""productKey":{},"deviceName":"{device}""#, quoted(product));
            Name {
                who: format!(r#""iotId":"{iot_id}",{own}"#),
                own,
                prefix: format!("/{product}/{device}/"),
                status: format!("/as/mqtt/status/{product}/{device}"),
                device,
                iot_id,
            }
        });
        Self { product: product.to_owned(), list: list.collect() }
    }

    /// The key of the product that they are of.
    pub(crate) fn product(&self) -> &str {
        &self.product
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, index: u32) -> &Name {
        &self.list[index as usize]
    }

    /// The device of this name.
    pub(crate) fn find(&self, device: &str) -> Option<u32> {
        let index: u32 = device.strip_prefix("device-")?.parse().ok()?;
        // `device-1` is not `device-0001`.
        self.list.get(index as usize).filter(|name| name.device == device).map(|_| index)
    }

    /// The device that the platform calls so.
    pub(crate) fn find_iot_id(&self, iot_id: &str) -> Option<u32> {
        let index = ids::device_number(iot_id)?;
        self.list.get(index as usize).filter(|name| name.iot_id == iot_id).map(|_| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_names_and_by_nothing_else() {
        let names = Names::new("pk", 12_000);
        for (name, index) in [("device-0000", 0), ("device-0011", 11), ("device-11999", 11_999)] {
            assert_eq!(names.find(name), Some(index));
            assert_eq!(names.find_iot_id(&names.get(index).iot_id), Some(index));
        }
        for name in
            ["", "device-", "device-1", "device-00011", "device-12000", "device-+011", "meter-0001", "pkdevice-0001"]
        {
            assert_eq!(names.find(name), None, "{name}");
        }
        for id in ["device-0001", "pkdevice-0001", &ids::device("pk", 12_000), &ids::device("other", 11)] {
            assert_eq!(names.find_iot_id(id), None, "{id}");
        }
    }
}
