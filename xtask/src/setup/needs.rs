//! What the workspace's commands need beside Rust, and whether this machine has it.
//!
//! Asked by looking for the thing itself, not for its package: a machine that got it in another
//! way is as good. Every probe is cheap, because `setup` runs before most commands.

use std::fmt;
use std::path::Path;
use std::process::Command;

use super::{linker, venv};
use crate::command::{find, probe};
use crate::toolchain::{Choice, Route};

/// Something that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// An executable.
    Tool(Tool),
    /// The list of port names, without which wrk can't read `http://` (it asks getaddrinfo).
    Services,
    /// A compiler for BPF, by either route.
    Compiler,
    /// bpf-linker, which rustc calls for BPF targets.
    Linker,
    /// The Python environment with the tests' clients.
    Clients,
}

/// An executable and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    name: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 14] = [
    Tool {
        name: "bpftool",
        package: "bpftool",
    },
    Tool {
        name: "c++",
        package: "g++",
    },
    Tool {
        name: "cc",
        package: "gcc",
    },
    Tool {
        name: "curl",
        package: "curl",
    },
    Tool {
        name: "ethtool",
        package: "ethtool",
    },
    Tool {
        name: "haproxy",
        package: "haproxy",
    },
    Tool {
        name: "ip",
        package: "iproute2",
    },
    Tool {
        name: "nft",
        package: "nftables",
    },
    Tool {
        name: "nginx",
        package: "nginx-light",
    },
    Tool {
        name: "openssl",
        package: "openssl",
    },
    Tool {
        name: "python3",
        package: "python3",
    },
    Tool {
        name: "setpriv",
        package: "util-linux",
    },
    Tool {
        name: "swaks",
        package: "swaks",
    },
    Tool {
        name: "wrk",
        package: "wrk",
    },
];

const SERVICES: &str = "/etc/services";

/// bpf-linker is C++'s LLVM inside; its build links these.
const LINKER_PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "g++"];

const COMPILER_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];

/// Everything that is not there.
pub(super) fn missing() -> Vec<Need> {
    let tools = TOOLS
        .into_iter()
        .filter(|tool| find(tool.name).is_none())
        .map(Need::Tool);
    let services = (!Path::new(SERVICES).exists()).then_some(Need::Services);
    let compiler = Route::detect(Choice::Auto)
        .is_none()
        .then_some(Need::Compiler);
    let linker = (!linker::is_usable()).then_some(Need::Linker);
    let clients = (!venv::is_current()).then_some(Need::Clients);
    tools
        .chain(services)
        .chain(compiler)
        .chain(linker)
        .chain(clients)
        .collect()
}

impl Need {
    /// The Debian packages that are installed for it: some only when they are missing as well.
    pub(super) fn packages(&self) -> Vec<&'static str> {
        match self {
            Self::Tool(tool) => vec![tool.package],
            Self::Services => vec!["netbase"],
            Self::Compiler => COMPILER_PACKAGES.to_vec(),
            Self::Linker if !linker::has_llvm() => LINKER_PACKAGES.to_vec(),
            Self::Clients if !has_venv_module() => vec!["python3-venv"],
            Self::Linker | Self::Clients => Vec::new(),
        }
    }

    /// Whether its packages are all that it takes.
    pub(super) fn is_from_apt(&self) -> bool {
        matches!(self, Self::Tool(_) | Self::Services | Self::Compiler)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(tool) => f.write_str(tool.name),
            Self::Services => f.write_str(SERVICES),
            Self::Compiler => f.write_str("a BPF compiler"),
            Self::Linker => write!(f, "bpf-linker {}", linker::VERSION),
            Self::Clients => f.write_str("the tests' Python packages"),
        }
    }
}

fn has_venv_module() -> bool {
    Path::new(venv::PYTHON).exists()
        && probe(Command::new(venv::PYTHON).args(["-c", "import ensurepip"])).is_some()
}
