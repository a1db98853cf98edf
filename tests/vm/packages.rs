//! Debian packages that a VM is made of, downloaded once into `target/vm` and unpacked there; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Tests run side by side and want the same packages.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where all that is fetched or made lies.
pub fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let dir = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("vm");
    fs::create_dir_all(&dir).expect("target is ours");
    dir
}

/// The folder into which a package is unpacked; downloaded where no copy is kept.
///
/// # Errors
/// Why it cannot be had.
pub fn unpacked(package: &str) -> Result<PathBuf, String> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = cache().join(package);
    if dir.exists() {
        return Ok(dir);
    }
    let archive = downloaded(package)?;
    // Renamed when it is whole: a run that is killed leaves nothing half unpacked under the name.
    let half = cache().join(format!("{package}.half"));
    let _ = fs::remove_dir_all(&half);
    output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&half))?;
    fs::rename(&half, &dir).map_err(|e| e.to_string())?;
    let _ = fs::remove_file(archive);
    Ok(dir)
}

/// What a package of no content stands for: `linux-image-6.12-cloud-amd64` depends on the kernel itself.
///
/// # Errors
/// That apt does not know it.
pub fn behind(meta: &str) -> Result<String, String> {
    let text = output(Command::new("apt-cache").args(["depends", "--important", meta]))?;
    let depends = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    depends.map(str::to_owned).ok_or_else(|| format!("apt knows no package {meta}"))
}

fn downloaded(package: &str) -> Result<PathBuf, String> {
    let dir = tempfile::tempdir_in(cache()).map_err(|e| e.to_string())?.keep();
    output(
        Command::new("apt-get").args(["-o", "Acquire::Retries=5", "download", "--quiet", package]).current_dir(&dir),
    )?;
    let mut files = fs::read_dir(&dir).map_err(|e| e.to_string())?.filter_map(Result::ok).map(|entry| entry.path());
    let archive = files.next().ok_or_else(|| format!("apt-get brought nothing for {package}"))?;
    let kept = cache().join(format!("{package}.deb"));
    fs::rename(archive, &kept).map_err(|e| e.to_string())?;
    let _ = fs::remove_dir(dir);
    Ok(kept)
}

/// Runs a program to its end and gives what it printed.
///
/// # Errors
/// What it said when it failed.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}: {}: {stderr}", output.status)) }
}
