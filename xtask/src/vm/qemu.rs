//! The emulator: Debian's, from a package that is unpacked and not installed unless this host has one.
//!
//! Invariant: a machine ends by itself after [`LIMIT`], and at once when this process does, even by `kill -9`.
//! Software emulation always: it is the same everywhere, and most places where tests run offer nothing else.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::network::{self, CARDS, Network, QUEUES};
use super::{Results, package};
use crate::command;

const PROGRAM: &str = "qemu-system-x86_64";

/// Processors of a machine: the fewest that show a race, and a flow on the wrong one.
pub(super) const PROCESSORS: u8 = 2;

/// The default flow table of `lb` takes 256 MiB, the file system about as much.
const MEMORY: &str = "2G";

/// Longest run of a machine, in seconds: several times what a busy laptop takes.
const LIMIT: &str = "600";

/// Where the emulator is.
pub(super) enum Emulator {
    /// This host has it.
    Installed(PathBuf),
    /// Unpacked into this directory.
    Unpacked(PathBuf),
}

/// Finds or fetches it.
///
/// # Errors
/// It could not be fetched.
pub(super) fn fetch() -> Result<Emulator> {
    Ok(match command::find(PROGRAM) {
        Some(path) => Emulator::Installed(path),
        None => Emulator::Unpacked(package::unpacked("qemu-system-x86")?),
    })
}

impl Emulator {
    /// Boots a machine, lets it run to its end, and gives what it found; all that it printed goes to `log`.
    ///
    /// # Errors
    /// It could not be started.
    pub(super) fn run(
        &self,
        kernel: &Path,
        initramfs: &Path,
        network: &Network,
        log: &Path,
    ) -> Result<Results> {
        let mut machine = network.command("setpriv")?;
        machine.args(["--pdeathsig", "KILL", "timeout", "--foreground"]);
        machine.args(["--signal", "KILL", LIMIT]);
        machine.args(["setpriv", "--pdeathsig", "KILL"]);
        machine.args(self.words());
        // Nothing but what is named here; a reset, also that after a panic, is the end.
        machine.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        machine.args(["-display", "none", "-serial", "stdio"]);
        machine.args(["-accel", "tcg", "-cpu", "max", "-m", MEMORY]);
        machine.arg("-smp").arg(PROCESSORS.to_string());
        for card in CARDS {
            machine.args(card_arguments(card));
        }
        machine.arg("-kernel").arg(kernel);
        machine.arg("-initrd").arg(initramfs);
        machine.arg("-append").arg(KERNEL_ARGUMENTS);
        super::results_of(&mut machine, log)
    }

    /// Program and where it finds its parts.
    fn words(&self) -> Vec<String> {
        let tree = match self {
            Self::Installed(path) => return vec![path.display().to_string()],
            Self::Unpacked(tree) => tree.display(),
        };
        let libraries = "lib/x86_64-linux-gnu";
        [
            "env".to_owned(),
            format!("LD_LIBRARY_PATH={tree}/{libraries}:{tree}/usr/{libraries}"),
            format!("QEMU_MODULE_DIR={tree}/usr/{libraries}/qemu"),
            format!("{tree}/usr/bin/{PROGRAM}"),
            "-L".to_owned(),
            format!("{tree}/usr/share/qemu"),
            "-L".to_owned(),
            format!("{tree}/usr/share/seabios"),
        ]
        .into()
    }
}

/// The kernel gives its first process what it does not know itself: variables, and what follows `--`.
/// Nobody logs in there, so the pool's servers start a Python that they never ask: `true` will do.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 rdinit=/lb/lb-vm-guest PATH=/bin \
     LB_XDP_OBJECT=/lb/lb-xdp LB_PYTHON=/bin/true -- /lb/prog_run";

fn card_arguments(card: u8) -> [String; 4] {
    let (tap, address) = (network::tap(card), network::hardware_address(card));
    // A vector for each direction of each queue, one for control, one for changes.
    let vectors = 2 * QUEUES + 2;
    [
        "-netdev".to_owned(),
        format!("tap,id=net{card},ifname={tap},queues={QUEUES},script=no,downscript=no,vhost=off"),
        "-device".to_owned(),
        format!("virtio-net-pci,netdev=net{card},mac={address},mq=on,vectors={vectors},romfile="),
    ]
}
