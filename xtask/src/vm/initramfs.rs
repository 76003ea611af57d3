//! The file system that a machine starts with, as a `cpio` archive in the format "newc".
//!
//! The format is described in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Only
//! what our machines need is here: directories, files, and the console. Everything is written by us, so there is
//! no input to check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Directory, for all to read.
const DIRECTORY: u32 = 0o040_755;
/// Program, for all to run; modules and objects do not mind.
const FILE: u32 = 0o100_755;
/// Character device.
const DEVICE: u32 = 0o020_600;
/// Major and minor number of `/dev/console`.
const CONSOLE: (u32, u32) = (5, 1);

/// Files by their path without the leading slash.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    files: BTreeMap<String, Vec<u8>>,
}

impl Initramfs {
    /// Adds a file.
    pub(super) fn add_file(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.to_owned(), bytes);
    }

    /// Adds a program of this host and the libraries that it is linked to.
    ///
    /// # Errors
    /// It cannot be read, or a library is missing.
    pub(super) fn add_program(&mut self, program: &Path, path: &str) -> Result<()> {
        let listing = command::probe(
            Command::new("ldd")
                .arg(program)
                // The one that `cargo run` sets names directories that the guest doesn't have.
                .env_remove("LD_LIBRARY_PATH"),
        );
        let listing =
            listing.with_context(|| format!("ldd fails on {}: is it there?", program.display()))?;
        for library in libraries(&listing)? {
            if !self.files.contains_key(&library[1..]) {
                self.add_file(&library[1..], read(Path::new(library))?);
            }
        }
        self.add_file(path, read(program)?);
        Ok(())
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// As writing to `out`.
    pub(super) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = Archive {
            out: BufWriter::new(out),
            number: 0,
        };
        // Until /dev is mounted, this is where the first process prints.
        let paths = self.files.keys().map(String::as_str).chain(["dev/console"]);
        let directories: BTreeSet<&str> = paths.flat_map(parents).collect();
        for directory in directories {
            archive.entry(directory, DIRECTORY, (0, 0), &[])?;
        }
        archive.entry("dev/console", DEVICE, CONSOLE, &[])?;
        for (path, bytes) in &self.files {
            archive.entry(path, FILE, (0, 0), bytes)?;
        }
        archive.entry("TRAILER!!!", 0, (0, 0), &[])?;
        archive.out.flush()
    }
}

/// `a/b/c` is in `a/b` and in `a`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// The paths in what `ldd` prints: `libc.so.6 => /lib/libc.so.6 (0x…)`, or just the loader's path.
fn libraries(listing: &str) -> Result<Vec<&str>> {
    if let Some(line) = listing.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", line.trim());
    }
    let path = |line: &'_ str| line.find('/').map(|start| start..line.len());
    Ok(listing
        .lines()
        .filter_map(|line| line[path(line)?].split(' ').next())
        .collect())
}

struct Archive<W> {
    out: W,
    number: u32,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        self.number += 1;
        let length = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let fields = [
            self.number,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            length(bytes.len())?,
            0, // device that the file is on, in two numbers
            0,
            device.0,
            device.1,
            length(path.len() + 1)?,
            0, // checksum, which this format leaves out
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        // Six bytes and thirteen fields of eight digits.
        let header = 6 + fields.len() * 8 + path.len() + 1;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    /// Everything starts at a multiple of four.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        let zeros = length.next_multiple_of(4) - length;
        self.out.write_all(&[0; 3][..zeros])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_directories_before_their_files_and_is_aligned() {
        let mut image = Initramfs::default();
        image.add_file("a/b/c", vec![7; 5]);
        let mut archive = Vec::new();
        image.write(&mut archive).unwrap();
        assert!(archive.len().is_multiple_of(4));
        let names: Vec<_> = entries(&archive)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            ["a", "a/b", "dev", "dev/console", "a/b/c", "TRAILER!!!"]
        );
        assert_eq!(entries(&archive)[4].1, [7; 5]);
    }

    /// Reads an archive by the format's description.
    fn entries(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        while !archive.is_empty() {
            assert_eq!(&archive[..6], b"070701");
            let field = |number: usize| {
                let start = 6 + 8 * number;
                let digits = str::from_utf8(&archive[start..start + 8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name) = (field(6), field(11));
            let data = (110 + name).next_multiple_of(4);
            let text = str::from_utf8(&archive[110..110 + name - 1]).unwrap();
            found.push((text.to_owned(), archive[data..data + size].to_vec()));
            archive = &archive[(data + size).next_multiple_of(4)..];
        }
        found
    }

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let listing = "\tlinux-vdso.so.1 (0x00007fff)\n\
                       \tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux.so.2 (0x00007f)\n";
        let found = libraries(listing).unwrap();
        assert_eq!(found, ["/lib/x/libc.so.6", "/lib64/ld-linux.so.2"]);
        assert!(libraries("\tstatically linked\n").unwrap().is_empty());
        assert!(libraries("\tlibx.so => not found\n").is_err());
    }
}
