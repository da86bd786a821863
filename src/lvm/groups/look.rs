//! One look at a number of devices: label, headers, texts.

use std::collections::HashMap;
use std::sync::Arc;

use super::assemble::Area;
use super::pages::Pages;
use crate::host::kernel::{BlockDevice, Kernel};
use crate::lvm::area::{self, Content, HEADER_BYTES, Header, Location};
use crate::lvm::label::{self, Label, LabelError, Region};
use crate::lvm::metadata::{Description, describe};
use crate::lvm::model::MetadataArea;

/// What is read of every device: the four sectors of the label and, as lvm lays it out, the header of the
/// first metadata area.
const HEAD: Region = Region { offset: 0, size: 8192 };

/// A text that was understood, or why it was not.
type Understood = Result<Arc<Description>, String>;

/// What is known of a device from earlier looks.
#[derive(Default)]
pub(super) struct Known {
    /// The physical volume's UUID; what was read from another one does not count.
    uuid: String,
    /// Its metadata areas.
    areas: Vec<Region>,
    /// The text last read from an area, by the area's start. It is still there while the header leads to it.
    texts: HashMap<u64, (Location, Understood)>,
    /// The fingerprint of a state that stayed damaged however often it was read.
    pub(super) damaged: Option<u32>,
}

/// What a device says.
pub(super) enum Sight {
    /// It carries no physical volume.
    Nothing,
    /// That is not known, and why.
    Unreadable(String),
    /// It carries a physical volume.
    Volume { uuid: String, areas: Vec<Area> },
}

/// What one look at a device brought.
pub(super) struct Look {
    pub(super) sight: Sight,
    /// Where lvm may just have been writing, so that another look may bring more: a number that differs when what was read
    /// differed.
    pub(super) torn: Option<u32>,
}

impl Look {
    /// Looks at all the devices together; the answers are in their order.
    pub(super) async fn at(
        devices: &[BlockDevice],
        known: &mut HashMap<BlockDevice, Known>,
        kernel: &dyn Kernel,
    ) -> Vec<Self> {
        let mut pages = Pages::new(devices);
        let mut wanted = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            wanted.push((index, head(device)));
            let areas = known.get(device).map_or(&[][..], |known| known.areas.as_slice());
            wanted.extend(areas.iter().map(|area| (index, header_region(*area))));
        }
        pages.fetch(wanted, kernel).await;

        let labels: Vec<_> = devices.iter().enumerate().map(|(index, device)| label(index, device, &pages)).collect();
        for (device, label) in devices.iter().zip(&labels) {
            match label {
                Ok(label) => known.entry(device.clone()).or_default().take_note(label),
                Err((Sight::Nothing, _)) => drop(known.remove(device)),
                Err(_) => {}
            }
        }
        let areas = |index: usize| labels[index].iter().flat_map(|label: &Label| label.metadata_areas.clone());
        let headers = (0..devices.len()).flat_map(|index| areas(index).map(move |area| (index, header_region(area))));
        pages.fetch(headers.collect(), kernel).await;

        let mut wanted = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            for area in areas(index) {
                if let Ok(header) = header(index, area, &pages)
                    && let Content::Text(location) = header.content
                    && known.get(device).and_then(|known| known.text(area, location)).is_none()
                {
                    wanted.extend(header.regions(location).into_iter().map(|region| (index, region)));
                }
            }
        }
        pages.fetch(wanted, kernel).await;

        // The areas of a group mostly hold the same bytes: those are understood once.
        let mut texts = HashMap::new();
        let looks = devices.iter().zip(labels).enumerate().map(|(index, (device, label))| {
            let (sight, torn) = match label {
                Ok(label) => volume(index, label, &pages, known.entry(device.clone()).or_default(), &mut texts),
                Err(other) => other,
            };
            Self { sight, torn: torn.then(|| pages.fingerprint(index)) }
        });
        looks.collect()
    }
}

impl Known {
    fn take_note(&mut self, label: &Label) {
        if self.uuid != label.uuid || self.areas != label.metadata_areas {
            *self = Self { uuid: label.uuid.clone(), areas: label.metadata_areas.clone(), ..Self::default() };
        }
    }

    fn text(&self, area: Region, location: Location) -> Option<&Understood> {
        self.texts.get(&area.offset).filter(|(known, _)| *known == location).map(|(_, understood)| understood)
    }
}

fn head(device: &BlockDevice) -> Region {
    Region { size: HEAD.size.min(device.size), ..HEAD }
}

fn header_region(area: Region) -> Region {
    Region { offset: area.offset, size: HEADER_BYTES }
}

/// The device's label; without one, what that means and whether another look may help.
fn label(index: usize, device: &BlockDevice, pages: &Pages<'_>) -> Result<Label, (Sight, bool)> {
    let head = pages.bytes(index, head(device)).map_err(|reason| (Sight::Unreadable(reason), false))?;
    if label::is_partitioned(head) {
        return Err((Sight::Nothing, false));
    }
    match label::find(head) {
        Ok(Some(label)) => Ok(label),
        Ok(None) => Err((Sight::Nothing, false)),
        Err(error) => {
            let torn = matches!(error, LabelError::Checksum { .. });
            Err((Sight::Unreadable(error.to_string()), torn))
        }
    }
}

/// The header of an area; without one, why, and whether another look may help.
fn header(index: usize, area: Region, pages: &Pages<'_>) -> Result<Header, (String, bool)> {
    let bytes = pages.bytes(index, header_region(area)).map_err(|reason| (reason, false))?;
    area::header(area, bytes).map_err(|error| (error.to_string(), error.may_be_torn()))
}

fn volume(
    index: usize,
    label: Label,
    pages: &Pages<'_>,
    known: &mut Known,
    texts: &mut HashMap<Vec<u8>, Understood>,
) -> (Sight, bool) {
    let mut torn_anywhere = false;
    let mut areas = Vec::new();
    for region in label.metadata_areas {
        areas.push(area(index, region, pages, known, texts).unwrap_or_else(|(reason, torn)| {
            torn_anywhere |= torn;
            Area::Unreadable(format!("the metadata area at {}: {reason}", region.offset))
        }));
    }
    (Sight::Volume { uuid: label.uuid, areas }, torn_anywhere)
}

fn area(
    index: usize,
    region: Region,
    pages: &Pages<'_>,
    known: &mut Known,
    texts: &mut HashMap<Vec<u8>, Understood>,
) -> Result<Area, (String, bool)> {
    let header = header(index, region, pages)?;
    let Content::Text(location) = header.content else { return Ok(Area::Empty) };
    let understood = if let Some(understood) = known.text(region, location) {
        understood.clone()
    } else {
        let mut bytes = Vec::new();
        for part in header.regions(location) {
            bytes.extend_from_slice(pages.bytes(index, part).map_err(|reason| (reason, false))?);
        }
        let text = area::text(location, bytes).map_err(|error| (error.to_string(), error.may_be_torn()))?;
        let understood = understand(text, texts);
        known.texts.insert(region.offset, (location, understood.clone()));
        understood
    };
    let room = MetadataArea { size: header.ring(), used: location.size };
    let description = understood.map_err(|reason| (reason, false))?;
    Ok(Area::Copy { description, room })
}

fn understand(text: Vec<u8>, texts: &mut HashMap<Vec<u8>, Understood>) -> Understood {
    if let Some(understood) = texts.get(&text) {
        return understood.clone();
    }
    let understood = describe(&text).map(Arc::new).map_err(|error| error.to_string());
    texts.insert(text, understood.clone());
    understood
}
