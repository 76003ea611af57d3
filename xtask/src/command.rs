//! Running other programs: printed before they start, checked when they end, never by a shell.

use std::borrow::Cow;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Prints `command` and runs it in the workspace root; an unsuccessful end is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = display(command);
    eprintln!("$ {name}");
    let status = command
        .current_dir(workspace::root())
        .status()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !status.success() {
        bail!("`{name}` ended with {status}");
    }
    Ok(())
}

/// Prints `command` and becomes it: signals, even SIGKILL, then reach it and not a parent of it.
///
/// # Errors
/// Always, because it returns only if the program cannot be started.
pub(crate) fn become_it(command: &mut Command) -> Result<()> {
    let name = display(command);
    eprintln!("$ {name}");
    Err(command.current_dir(workspace::root()).exec())
        .with_context(|| format!("cannot start `{name}`"))
}

/// Runs a probe silently; its standard output if it succeeded.
///
/// A probe changes nothing and its failure is an answer, so it is neither printed nor an error.
pub(crate) fn probe(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` points this at its own compiler's libraries; another compiler must not see them.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What to put before a command that must run as root: nothing, or `sudo`.
///
/// # Errors
/// Not root, and sudo is missing or would ask for a password: says what to do.
pub(crate) fn root_prefix() -> Result<&'static [&'static str]> {
    const SUDO: &[&str] = &["sudo", "-n", "-E"];
    if is_root() {
        Ok(&[])
    } else if probe(Command::new("sudo").args(["-n", "true"])).is_some() {
        Ok(SUDO)
    } else {
        bail!(
            "this part needs root, and `sudo -n true` fails: run the command as root, \
             or run `sudo true` first so that sudo asks no password"
        )
    }
}

/// A command that runs as root.
///
/// # Errors
/// As [`root_prefix`].
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    Ok(match root_prefix()? {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    })
}

/// The path of a tool: on `PATH`, in the system directories that a user's `PATH` often lacks, or
/// among the tools that `setup` installed.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    search_path()
        .map(|dir| dir.join(tool))
        .find(|path| path.is_file())
}

/// `PATH` for children, with everything that [`find`] searches, and `first` in front.
///
/// # Errors
/// A directory's name holds a colon.
pub(crate) fn path_with(first: Option<&Path>) -> Result<OsString> {
    let dirs = first
        .map(Path::to_path_buf)
        .into_iter()
        .chain(search_path());
    env::join_paths(dirs).context("a directory of PATH has a colon in its name")
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let inherited: Vec<PathBuf> = env::split_paths(&path).collect();
    inherited
        .into_iter()
        .chain(home.map(|home| home.join("bin")))
        .chain([
            workspace::tools().join("bin"),
            "/usr/sbin".into(),
            "/sbin".into(),
        ])
}

/// The command as one could type it: variables that it sets, program, arguments.
fn display(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = quote(&value?.to_string_lossy()).into_owned();
        // The search path is long and says nothing about what the command does.
        (name != "PATH").then(|| format!("{}={value}", name.to_string_lossy()))
    });
    let program = Path::new(command.get_program());
    let program = match program.file_name() {
        // Outside the work tree the directory is where this machine happens to keep its tools.
        Some(name) if !program.starts_with(workspace::root()) => name.to_string_lossy(),
        _ => program.to_string_lossy(),
    };
    let words = command
        .get_args()
        .map(|word| quote(&word.to_string_lossy()).into_owned());
    let mut line: Vec<String> = variables.collect();
    line.push(quote(&program).into_owned());
    line.extend(words);
    line.join(" ")
}

fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+,-./:=@_%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else if word.chars().any(char::is_control) {
        // Bash's quoting with escapes: cargo separates encoded flags by the control character 1f.
        Cow::Owned(format!(
            "$'{}'",
            word.escape_default()
                .to_string()
                .replace("\\u{1f}", "\\x1f")
        ))
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_bash_reads_them() {
        let check = |word, expected: &str| assert_eq!(quote(word), expected);
        check("--locked", "--locked");
        check("", "''");
        check("two words", "'two words'");
        check("it's", r"'it'\''s'");
        check("a\u{1f}b", r"$'a\x1fb'");
    }

    #[test]
    fn a_failing_program_is_an_error_that_names_it() {
        let error = run(&mut Command::new("false")).unwrap_err().to_string();
        assert!(
            error.contains("`false` ended with exit status: 1"),
            "{error}"
        );
    }

    #[test]
    fn a_command_is_shown_with_its_variables() {
        let mut command = Command::new("/usr/bin/tool");
        command.env("A", "1 2").env("PATH", "/long").arg("x");
        assert_eq!(display(&command), "A='1 2' tool x");
    }
}
