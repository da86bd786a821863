//! A disk with a write cache: what was written can be read at once, but survives a power cut only once
//! it was flushed.

use std::collections::BTreeMap;

pub const PAGE: usize = 4096;

type Page = Box<[u8; PAGE]>;

/// Pages that are nowhere are all zero. In the cache `None` stands for a page of zeroes.
#[derive(Clone, Default)]
pub struct Disk {
    pub size: usize,
    durable: BTreeMap<usize, Page>,
    cached: BTreeMap<usize, Option<Page>>,
}

/// What a power cut leaves of the writes that were not flushed. A cache writes back in any order, so
/// each kind may arrive without the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    Nothing,
    Metadata,
    Data,
}

impl Disk {
    pub fn new(size: usize) -> Self {
        Self { size, ..Self::default() }
    }

    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.size, "a read beyond the end of the disk");
        let mut bytes = vec![0; length];
        for (page, within, from, count) in pages(offset, length) {
            if let Some(content) = self.page(page) {
                bytes[from..from + count].copy_from_slice(&content[within..within + count]);
            }
        }
        bytes
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.size, "a write beyond the end of the disk");
        for (page, within, from, count) in pages(offset, bytes.len()) {
            let mut content = self.page(page).cloned().unwrap_or_else(|| Box::new([0; PAGE]));
            content[within..within + count].copy_from_slice(&bytes[from..from + count]);
            self.cached.insert(page, Some(content));
        }
    }

    pub fn zero(&mut self, offset: usize, length: usize) {
        assert!(offset + length <= self.size, "zeroes beyond the end of the disk");
        assert_eq!((offset % PAGE, length % PAGE), (0, 0), "zeroes are written in whole pages");
        let range = offset / PAGE..(offset + length) / PAGE;
        let held: Vec<usize> = self.durable.range(range.clone()).map(|(page, _)| *page).collect();
        let fresh: Vec<usize> = self.cached.range(range).map(|(page, _)| *page).collect();
        self.cached.extend(held.into_iter().chain(fresh).map(|page| (page, None)));
    }

    pub fn flush(&mut self) {
        self.settle(|_| true);
    }

    /// What lies before `data_start` is LVM's metadata, which survives or is lost as a whole.
    pub fn lose_power(&mut self, survivors: Survivors, data_start: usize) {
        self.settle(|page| match survivors {
            Survivors::Nothing => false,
            Survivors::Metadata => page * PAGE < data_start,
            Survivors::Data => page * PAGE >= data_start,
        });
    }

    /// Whether a page of the stretch begins with the text.
    pub fn has_page_with(&self, text: &[u8], offset: usize, length: usize) -> bool {
        self.written(offset, length).any(|content| content.starts_with(text))
    }

    pub fn is_zero(&self, offset: usize, length: usize) -> bool {
        self.written(offset, length).all(|content| **content == [0; PAGE])
    }

    /// The pages of a stretch that are not known to be zero.
    fn written(&self, offset: usize, length: usize) -> impl Iterator<Item = &Page> {
        let range = offset / PAGE..(offset + length) / PAGE;
        let durable = self.durable.range(range.clone()).filter(|(page, _)| !self.cached.contains_key(page));
        let cached = self.cached.range(range).filter_map(|(_, content)| content.as_ref());
        durable.map(|(_, content)| content).chain(cached)
    }

    fn settle(&mut self, survives: impl Fn(usize) -> bool) {
        for (page, content) in std::mem::take(&mut self.cached).into_iter().filter(|(page, _)| survives(*page)) {
            match content {
                Some(content) => drop(self.durable.insert(page, content)),
                None => drop(self.durable.remove(&page)),
            }
        }
    }

    fn page(&self, page: usize) -> Option<&Page> {
        match self.cached.get(&page) {
            Some(cached) => cached.as_ref(),
            None => self.durable.get(&page),
        }
    }
}

/// The pages of a stretch: number, start within the page, start within the stretch, bytes.
fn pages(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let count = (PAGE - at % PAGE).min(length - done);
        let piece = (at / PAGE, at % PAGE, done, count);
        done += count;
        (count > 0).then_some(piece)
    })
}
