//! What has been read of the devices during one look at them.

use crate::host::kernel::{BlockDevice, Kernel, Stretch};
use crate::lvm::checksum::{INITIAL, checksum};
use crate::lvm::label::Region;

/// Reads past the page cache begin and end at multiples of this, bytes.
const BLOCK: u64 = 4096;

/// What was read of some devices, each known by its place in their order.
pub(super) struct Pages<'d> {
    devices: &'d [BlockDevice],
    pages: Vec<Vec<Page>>,
}

struct Page {
    region: Region,
    content: Result<Vec<u8>, String>,
}

impl<'d> Pages<'d> {
    pub(super) fn new(devices: &'d [BlockDevice]) -> Self {
        Self { devices, pages: devices.iter().map(|_| Vec::new()).collect() }
    }

    /// Reads what is not there yet, everything in one call.
    pub(super) async fn fetch(&mut self, wanted: Vec<(usize, Region)>, kernel: &dyn Kernel) {
        let mut asked: Vec<(usize, Region)> = Vec::new();
        let mut stretches = Vec::new();
        for (device, region) in wanted {
            let Some(region) = self.blocks(device, region) else { continue };
            let is_asked = asked.iter().any(|(other, asked)| *other == device && covers(*asked, region));
            if !is_asked && self.page(device, region).is_none() {
                let Region { offset, size: length } = region;
                asked.push((device, region));
                stretches.push(Stretch { device: self.devices[device].path.clone(), offset, length });
            }
        }
        if asked.is_empty() {
            return;
        }
        for ((device, region), answer) in asked.into_iter().zip(kernel.read(stretches).await) {
            let content = answer.map_err(|error| error.to_string());
            self.pages[device].push(Page { region, content });
        }
    }

    /// What lies in the region, or why that is not known.
    pub(super) fn bytes(&self, device: usize, region: Region) -> Result<&[u8], String> {
        let beyond = || format!("{} bytes at {} lie beyond the end of the device", region.size, region.offset);
        let blocks = self.blocks(device, region).ok_or_else(beyond)?;
        let page = self.page(device, blocks).ok_or("it was not read")?;
        let content = page.content.as_ref().map_err(Clone::clone)?;
        let start = usize::try_from(region.offset - page.region.offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(usize::try_from(region.size).ok()?)?));
        range.and_then(|range| content.get(range)).ok_or_else(beyond)
    }

    /// A checksum of everything read of the device: differs when anything did.
    pub(super) fn fingerprint(&self, device: usize) -> u32 {
        let contents = self.pages[device].iter().filter_map(|page| page.content.as_ref().ok());
        contents.fold(INITIAL, |sum, content| checksum(sum, content))
    }

    fn page(&self, device: usize, blocks: Region) -> Option<&Page> {
        self.pages[device].iter().find(|page| covers(page.region, blocks))
    }

    /// The blocks that hold the region, as far as the device goes.
    fn blocks(&self, device: usize, region: Region) -> Option<Region> {
        let device_size = self.devices[device].size;
        let start = region.offset - region.offset % BLOCK;
        let end = region.offset.checked_add(region.size)?.checked_next_multiple_of(BLOCK)?.min(device_size);
        (start < end).then(|| Region { offset: start, size: end - start })
    }
}

fn covers(whole: Region, part: Region) -> bool {
    whole.offset <= part.offset && whole.offset + whole.size >= part.offset + part.size
}
