//! `cargo xtask kernel-env`: a folder in which modules are built for a stock Debian kernel.
//!
//! Debian's header packages carry no Rust metadata, so a Rust module cannot be built against them.
//! Here the kernel's own source, with Debian's own configuration and the compiler that built the
//! stock image, is prepared inside a small Debian of its own; a module built there loads in the
//! unchanged kernel. See `docs/kernel-env.md`.

mod debug;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub(crate) use self::debug::Flavour;
use crate::process::{capture, is_installed, pipeline, run_logged};

/// Where everything is kept, unless `RMPOPT_KERNEL_CACHE` names another folder.
const DEFAULT_CACHE: &str = "target/kernel-env";
/// The release whose compiler built the kernel.
pub(crate) const SUITE: &str = "trixie";
/// The suite the kernel comes from.
const KERNEL_SUITE: &str = "trixie-backports";
/// The metapackage that follows the newest kernel.
const KERNEL_METAPACKAGE: &str = "linux-image-amd64";
/// Keys that sign the suites above.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Programs needed on the host, and the package each is in.
const HOST_PROGRAMS: [(&str, &str); 11] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("cpio", "cpio"),
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("gzip", "gzip"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
];

/// What the kernel's build needs, installed in the Debian it happens in.
const TOOLCHAIN: [&str; 22] = [
    "build-essential",
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "libssl-dev",
    "libdw-dev",
    "kmod",
    "cpio",
    "xz-utils",
    "python3",
    "perl",
    "rsync",
    "rustc",
    "rust-src",
    "bindgen",
    "rustfmt",
    "rust-clippy",
    "libclang-dev",
    "pahole",
    "zstd",
    "gcc-14",
];

/// How an error begins that says that packages cannot be had here: no network, no mirror.
pub(crate) const UNAVAILABLE: &str = "error: not available here: ";

/// The same as the context of an error.
fn unavailable<T>(result: Result<T>) -> Result<T> {
    result.context("not available here")
}

/// Steps printed, so that a reader knows how far it is.
const STEPS: usize = 8;

/// Arguments of `kernel-env`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look whether a newer kernel has come out, and go over to it
    #[arg(long)]
    refresh: bool,
    /// Also a debug kernel (lockdep, sleep in atomic context, debug objects, leaks, failslab)
    #[arg(long)]
    debug: bool,
    /// Also a debug kernel with KASAN
    #[arg(long)]
    kasan: bool,
}

/// Makes the environment and says what it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let env = ensure(args.refresh)?;
    println!(
        "kernel {} (Debian {}) is ready in {} after {:.1} s",
        env.kernel.release,
        env.kernel.version,
        env.cache.display(),
        started.elapsed().as_secs_f64()
    );
    let wanted = [(args.debug, Flavour::Debug), (args.kasan, Flavour::Kasan)];
    wanted.into_iter().filter(|(wanted, _)| *wanted).try_fold(env, |env, (_, flavour)| {
        let env = env.with(flavour)?;
        println!(
            "kernel {} is ready after {:.1} s",
            env.release()?,
            started.elapsed().as_secs_f64()
        );
        anyhow::Ok(env)
    })?;
    Ok(())
}

/// Which kernel: resolved from the mirror when the environment is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Version of the Debian packages, such as `7.3.4-1~bpo13+1`.
    pub(crate) version: String,
    /// What `uname -r` says in it, such as `7.3.4+deb13-amd64`.
    pub(crate) release: String,
}

impl Kernel {
    /// First two numbers of the version: part of the names of the source packages.
    fn series(&self) -> String {
        self.version.split('.').take(2).collect::<Vec<_>>().join(".")
    }

    /// The source's name for builds by this distribution: what follows the upstream version.
    fn local_version(&self) -> &str {
        self.release.find(['+', '-']).map_or("", |at| &self.release[at..])
    }

    /// The packages, in the order config, source, headers, binary, modules.
    fn packages(&self) -> [String; 5] {
        let (series, release) = (self.series(), &self.release);
        [
            format!("linux-config-{series}"),
            format!("linux-source-{series}"),
            format!("linux-headers-{release}"),
            format!("linux-binary-{release}"),
            format!("linux-modules-{release}"),
        ]
    }
}

/// A folder in which modules can be built, and the kernel they load in.
#[derive(Debug)]
pub(crate) struct KernelEnv {
    cache: PathBuf,
    kernel: Kernel,
    flavour: Flavour,
    /// Held while this value lives: two commands must not build in one folder.
    _lock: File,
}

impl KernelEnv {
    /// The root of the Debian in which the build happens.
    pub(crate) fn root(&self) -> PathBuf {
        self.cache.join("root")
    }

    /// Where logs of commands are kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.cache.join(format!("logs{}", self.flavour.suffix()))
    }

    /// A folder for what a test makes, such as its initial file system.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.cache.join(format!("scratch{}", self.flavour.suffix())).join(name)
    }

    /// Which kernel modules are built for and booted in.
    pub(crate) const fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The stock kernel of this environment, whose source all its kernels are built from.
    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The kernel's image.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        if self.flavour != Flavour::Stock {
            return self.built_image();
        }
        self.cache.join("stock/usr/lib/modules").join(&self.kernel.release).join("vmlinuz")
    }

    /// A command run inside the Debian of this environment, with `/proc` mounted for it alone.
    pub(crate) fn command(&self, program: &str) -> Command {
        inside(&self.root(), program)
    }

    /// `make` in the kernel's prepared build folder.
    pub(crate) fn make(&self) -> Command {
        let mut make = self.command("make");
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        make.arg(format!("-j{jobs}")).args(["-C", "/kernel/src"]);
        make.arg(format!("O=/kernel/obj{}", self.flavour.suffix()));
        make.args(self.flavour.make(self.kernel.local_version()));
        make
    }
}

/// Unpacks a minimal Debian of [`SUITE`].
pub(crate) fn bootstrap(mirror: &Mirror, root: &Path, log: &Path) -> Result<()> {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--arch=amd64"]);
    debootstrap.arg(format!("--keyring={}", mirror.keys));
    if mirror.address.starts_with("https:") {
        debootstrap.arg("--include=ca-certificates");
    }
    debootstrap.arg(SUITE).arg(root).arg(&mirror.address);
    run_logged(&mut debootstrap, log)
}

/// A command inside another root; the mount of `/proc` (objtool and rustfmt read it) is private to
/// the command and vanishes with it.
pub(crate) fn inside(root: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc"]);
    command.arg("mount -t proc proc \"$1/proc\"; exec chroot \"$@\"");
    command.arg("sh").arg(root);
    // Nothing of the caller's: cargo's own variables would speak to clippy of another package.
    command.args(["/usr/bin/env", "-i"]);
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.args(["LC_ALL=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"]);
    command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.arg(program);
    command
}

/// The environment, made as far as it is not there yet.
pub(crate) fn ensure(refresh: bool) -> Result<KernelEnv> {
    let missing = missing_programs();
    require_root(&missing)?;
    let cache = cache_folder()?;
    for folder in ["", "logs", "debs", "stamps", "scratch"] {
        let folder = cache.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("waiting for another command that uses the same folder")?;

    let maker = Maker { cache: cache.clone() };
    unavailable(maker.host_programs(&missing))?;
    let kernel = unavailable(maker.kernel(refresh))?;
    let env = KernelEnv { cache, kernel, flavour: Flavour::Stock, _lock: lock };
    unavailable(maker.packages(&env.kernel))?;
    unavailable(maker.debian())?;
    maker.source(&env)?;
    maker.prepare(&env)?;
    maker.stock(&env.kernel)?;
    Ok(env)
}

/// The repository this program was compiled in.
pub(crate) fn repository() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask stands outside a repository")?.to_owned())
}

pub(crate) fn cache_folder() -> Result<PathBuf> {
    let folder = match std::env::var_os("RMPOPT_KERNEL_CACHE") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => repository()?.join(DEFAULT_CACHE),
    };
    Ok(std::path::absolute(folder)?)
}

/// One step's line on the screen.
fn say(step: usize, what: &str) {
    eprintln!("[{step}/{STEPS}] {what}");
}

/// Programs that the host lacks, with their packages.
fn missing_programs() -> Vec<(&'static str, &'static str)> {
    HOST_PROGRAMS.into_iter().filter(|(program, _)| !is_installed(program)).collect()
}

fn require_root(missing: &[(&str, &str)]) -> Result<()> {
    if capture(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let packages = match packages.as_slice() {
        [] => "none".to_owned(),
        some => some.join(" "),
    };
    bail!(
        "this must be run as root, for it installs packages and uses chroot and mount \
         (host packages missing: {packages})"
    )
}

/// The steps; each leaves a stamp that says for what it was done, and is passed over if it stands.
struct Maker {
    cache: PathBuf,
}

impl Maker {
    fn log(&self, name: &str) -> PathBuf {
        self.cache.join("logs").join(format!("{name}.log"))
    }

    fn stamp(&self, step: &str) -> PathBuf {
        self.cache.join("stamps").join(step)
    }

    fn is_done(&self, step: &str, what: &str) -> bool {
        fs::read_to_string(self.stamp(step)).is_ok_and(|text| text == what)
    }

    fn undo(&self, step: &str) -> Result<()> {
        match fs::remove_file(self.stamp(step)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn done(&self, step: &str, what: &str) -> Result<()> {
        fs::write(self.stamp(step), what).with_context(|| format!("marking {step} as done"))
    }

    /// Step 1: the programs on the host.
    fn host_programs(&self, missing: &[(&str, &str)]) -> Result<()> {
        let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        if missing.is_empty() {
            say(1, "host packages: present");
            return Ok(());
        }
        say(1, &format!("host packages: installing {}", packages.join(" ")));
        if !is_installed("apt-get") {
            bail!("no apt-get here; install by hand: {}", packages.join(" "))
        }
        let log = self.log("host-packages");
        let install = || {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
            apt
        };
        if run_logged(&mut install(), &log).is_err() {
            run_logged(Command::new("apt-get").arg("update"), &log)?;
            run_logged(&mut install(), &log)
                .with_context(|| format!("host packages not available: {}", packages.join(" ")))?;
        }
        for (program, package) in missing {
            if !is_installed(program) {
                bail!("package {package} is installed but brought no program {program}")
            }
        }
        Ok(())
    }

    /// Step 2: which kernel. What was resolved before stands until a refresh is asked for.
    fn kernel(&self, refresh: bool) -> Result<Kernel> {
        let remembered = fs::read_to_string(self.stamp("kernel")).ok();
        let remembered = remembered.as_deref().and_then(parse_kernel);
        if let (Some(kernel), false) = (&remembered, refresh) {
            say(2, &format!("kernel: {} (package version {})", kernel.release, kernel.version));
            return Ok(kernel.clone());
        }
        let mirror = mirror()?;
        say(2, &format!("kernel: asking {} on {}", KERNEL_SUITE, mirror.address));
        self.private_apt(&mirror)?;
        run_logged(
            self.apt("apt-get").args(["update", "-o", "APT::Update::Error-Mode=any"]),
            &self.log("apt-update"),
        )
        .context("reading the mirror's package lists")?;
        let listed = capture(self.apt("apt-cache").args(["madison", KERNEL_METAPACKAGE]))?;
        let version = newest_version(&listed)
            .with_context(|| format!("{KERNEL_METAPACKAGE} is not in {KERNEL_SUITE}"))?;
        let wanted = format!("{KERNEL_METAPACKAGE}={version}");
        let shown = capture(self.apt("apt-cache").args(["show", &wanted]))?;
        let release = release_in(&shown)
            .with_context(|| format!("{wanted} depends on no linux-image package"))?;
        let kernel = Kernel { version, release };
        let missing: Vec<String> = kernel
            .packages()
            .into_iter()
            .filter(|package| {
                let wanted = format!("{package}={}", kernel.version);
                capture(self.apt("apt-cache").args(["show", &wanted])).is_err()
            })
            .collect();
        if !missing.is_empty() {
            bail!(
                "the mirror has kernel {} but not, in the same version: {}",
                kernel.version,
                missing.join(" ")
            )
        }
        say(2, &format!("kernel: {} (package version {})", kernel.release, kernel.version));
        self.done("kernel", &format!("{}\n{}\n", kernel.version, kernel.release))?;
        Ok(kernel)
    }

    /// An apt that knows other suites than the system's and keeps its state in the cache folder.
    fn private_apt(&self, mirror: &Mirror) -> Result<()> {
        let apt = self.cache.join("apt");
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(folder))?;
        }
        fs::write(apt.join("state/status"), "")?;
        let Mirror { address, keys } = mirror;
        let source = |suite| format!("deb [arch=amd64 signed-by={keys}] {address} {suite} main\n");
        fs::write(apt.join("sources.list"), [SUITE, KERNEL_SUITE].map(source).concat())?;
        let at = apt.display();
        fs::write(
            apt.join("apt.conf"),
            format!(
                "Dir::State \"{at}/state\";\n\
                 Dir::State::status \"{at}/state/status\";\n\
                 Dir::Cache \"{at}/cache\";\n\
                 Dir::Etc::sourcelist \"{at}/sources.list\";\n\
                 Dir::Etc::sourceparts \"-\";\n\
                 Dir::Etc::preferences \"-\";\n\
                 Dir::Etc::preferencesparts \"-\";\n\
                 APT::Architecture \"amd64\";\n\
                 APT::Architectures {{ \"amd64\"; }};\n\
                 APT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\n\
                 #clear APT::Update::Post-Invoke;\n\
                 #clear APT::Update::Post-Invoke-Success;\n"
            ),
        )?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.cache.join("apt/apt.conf")).env("LC_ALL", "C");
        command
    }

    /// Step 3: the kernel's packages.
    fn packages(&self, kernel: &Kernel) -> Result<()> {
        let folder = self.cache.join("debs");
        let wanted: Vec<String> = kernel
            .packages()
            .into_iter()
            .filter(|package| deb(&folder, package, &kernel.version).is_err())
            .collect();
        if wanted.is_empty() {
            say(3, "kernel packages: present");
            return Ok(());
        }
        say(3, &format!("kernel packages: downloading {}", wanted.join(" ")));
        for stale in fs::read_dir(&folder)? {
            let stale = stale?;
            if !stale.file_name().to_string_lossy().contains(&format!("_{}_", kernel.version)) {
                fs::remove_file(stale.path())?;
            }
        }
        let mut download = self.apt("apt-get");
        download.arg("download").current_dir(&folder);
        download.args(wanted.iter().map(|package| format!("{package}={}", kernel.version)));
        run_logged(&mut download, &self.log("apt-download")).with_context(|| {
            format!(
                "downloading version {}; if the mirror no longer has it, run \
                 `cargo xtask kernel-env --refresh`",
                kernel.version
            )
        })
    }

    /// Steps 4 and 5: a minimal Debian with the compiler that built the kernel.
    fn debian(&self) -> Result<()> {
        let root = self.cache.join("root");
        let toolchain = TOOLCHAIN.join(" ");
        if self.is_done("debian", SUITE) {
            say(4, &format!("{SUITE}: present"));
        } else {
            let mirror = mirror()?;
            say(4, &format!("{SUITE}: unpacking a minimal system (half a minute)"));
            // What a broken-off run left cannot be trusted, and the kernel's tree lies inside.
            for step in ["toolchain", "source", "prepared"] {
                self.undo(step)?;
            }
            if root.exists() {
                fs::remove_dir_all(&root)?;
            }
            bootstrap(&mirror, &root, &self.log("debootstrap"))?;
            self.done("debian", SUITE)?;
        }
        if self.is_done("toolchain", &toolchain) {
            say(5, "compilers: present");
            return Ok(());
        }
        say(5, &format!("compilers: installing {toolchain}"));
        if Path::new("/etc/resolv.conf").exists() {
            fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"))?;
        }
        let log = self.log("toolchain");
        run_logged(inside(&root, "apt-get").arg("update"), &log)?;
        let mut install = inside(&root, "apt-get");
        install.args(["install", "--yes", "--no-install-recommends"]).args(TOOLCHAIN);
        run_logged(&mut install, &log)
            .with_context(|| format!("some package is not available in {SUITE}: {toolchain}"))?;
        run_logged(inside(&root, "apt-get").arg("clean"), &self.log("toolchain-clean"))?;
        self.done("toolchain", &toolchain)
    }

    /// Step 6: the kernel's source and Debian's configuration of it.
    fn source(&self, env: &KernelEnv) -> Result<()> {
        if self.is_done("source", &env.kernel.version) {
            say(6, "kernel source: present");
            return Ok(());
        }
        say(6, "kernel source: unpacking (20 seconds)");
        self.undo("prepared")?;
        let debs = self.cache.join("debs");
        let [config, source, ..] = env.kernel.packages();
        let tree = env.root().join("kernel");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(tree.join("src"))?;
        fs::create_dir_all(tree.join("obj"))?;
        let script = format!(
            "dpkg-deb --fsys-tarfile \"$1\" | tar -xO ./usr/src/{source}.tar.xz \
             | xz -dc -T0 | tar -x -C \"$2\" --strip-components=1"
        );
        let deb_of = |package: &str| deb(&debs, package, &env.kernel.version);
        pipeline(&script, &[&deb_of(&source)?, &tree.join("src")], &self.log("source"))?;
        let script = format!(
            "dpkg-deb --fsys-tarfile \"$1\" \
             | tar -xO ./usr/src/{config}/config.amd64_none_amd64.xz | xz -dc > \"$2\""
        );
        pipeline(&script, &[&deb_of(&config)?, &tree.join("obj/.config")], &self.log("config"))?;
        self.done("source", &env.kernel.version)
    }

    /// Step 7: what a module's build reads of a built kernel. Only its Rust half is compiled.
    fn prepare(&self, env: &KernelEnv) -> Result<()> {
        if self.is_done("prepared", &env.kernel.version) {
            say(7, "kernel build folder: present");
            return Ok(());
        }
        say(7, "kernel build folder: preparing (two to three minutes)");
        for target in ["rustavailable", "olddefconfig", "modules_prepare"] {
            run_logged(env.make().arg(target), &self.log(target))?;
        }
        let release = env.root().join("kernel/obj/include/config/kernel.release");
        let release = fs::read_to_string(release)?;
        if release.trim() != env.kernel.release {
            bail!(
                "the prepared source calls itself {}, the stock kernel {}: its modules would not load",
                release.trim(),
                env.kernel.release
            )
        }
        self.done("prepared", &env.kernel.version)
    }

    /// Step 8: the stock kernel itself, its modules, and the list of what it exports.
    fn stock(&self, kernel: &Kernel) -> Result<()> {
        let symbols = self.cache.join("root/kernel/obj/Module.symvers");
        if self.is_done("stock", &kernel.version) && symbols.exists() {
            say(8, "stock kernel: present");
            return Ok(());
        }
        say(8, "stock kernel: unpacking its image, modules and exported symbols");
        let stock = self.cache.join("stock");
        if stock.exists() {
            fs::remove_dir_all(&stock)?;
        }
        let debs = self.cache.join("debs");
        let [_, _, headers, binary, modules] = kernel.packages();
        for package in [&headers, &binary, &modules] {
            let file = deb(&debs, package, &kernel.version)?;
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(file).arg(&stock);
            run_logged(&mut unpack, &self.log("stock"))?;
        }
        fs::copy(stock.join("usr/src").join(&headers).join("Module.symvers"), symbols)
            .context("taking Module.symvers from the headers package")?;
        self.done("stock", &kernel.version)
    }
}

/// The downloaded file of a package.
fn deb(folder: &Path, package: &str, version: &str) -> Result<PathBuf> {
    // apt writes the colon of an epoch as %3a.
    let start = format!("{package}_{}_", version.replace(':', "%3a"));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&start) && path.extension().is_some_and(|ext| ext == "deb") {
            return Ok(path);
        }
    }
    bail!("no downloaded package {package} of version {version}")
}

fn parse_kernel(text: &str) -> Option<Kernel> {
    let mut lines = text.lines();
    let (version, release) = (lines.next()?.to_owned(), lines.next()?.to_owned());
    Some(Kernel { version, release })
}

/// The newest version `apt-cache madison` lists in the kernel's suite (it lists newest first).
fn newest_version(madison: &str) -> Option<String> {
    let suite = format!(" {KERNEL_SUITE}/");
    let line = madison.lines().find(|line| line.contains(&suite))?;
    Some(line.split('|').nth(1)?.trim().to_owned())
}

/// The kernel release in the dependencies of the metapackage.
fn release_in(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let package = depends.split(',').find_map(|item| item.trim().strip_prefix("linux-image-"))?;
    Some(package.split_whitespace().next()?.to_owned())
}

/// Where the system's packages come from, and the keys that sign them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    address: String,
    keys: String,
}

/// The mirror of the running system's own sources (or `RMPOPT_KERNEL_MIRROR`).
pub(crate) fn mirror() -> Result<Mirror> {
    if let Ok(address) = std::env::var("RMPOPT_KERNEL_MIRROR")
        && !address.is_empty()
    {
        return Ok(Mirror { address, keys: KEYRING.to_owned() });
    }
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let of = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let (id, codename) = (of("ID"), of("VERSION_CODENAME"));
    if id != "debian" {
        bail!(
            "this system ({id}) is not Debian, so its own mirror has no {SUITE}; \
             set RMPOPT_KERNEL_MIRROR to the address of a Debian mirror"
        )
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<PathBuf> =
            folder.filter_map(Result::ok).map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let found = match file.extension().and_then(|ext| ext.to_str()) {
            Some("sources") => mirror_in_stanzas(&text, &codename),
            _ => mirror_in_lines(&text, &codename),
        };
        if let Some(mut mirror) = found {
            mirror.address = resolve_list(mirror.address)?;
            return Ok(mirror);
        }
    }
    bail!(
        "no apt source of this system lists {codename} main; \
         set RMPOPT_KERNEL_MIRROR to the address of a Debian mirror"
    )
}

/// `mirror+file:` names a list of mirrors; debootstrap wants one of them.
fn resolve_list(address: String) -> Result<String> {
    let Some(file) = address.strip_prefix("mirror+file:") else { return Ok(address) };
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let first = first.and_then(|line| line.split_whitespace().next());
    Ok(first.with_context(|| format!("no mirror in {file}"))?.to_owned())
}

/// The first archive with `codename` and `main` in one-line sources.
fn mirror_in_lines(text: &str, codename: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let mut rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let mut keys = None;
        if let Some(options) = rest.strip_prefix('[') {
            let (options, after) = options.split_once(']')?;
            let signed =
                options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            keys = signed.map(str::to_owned);
            rest = after;
        }
        let mut words = rest.split_whitespace();
        let (address, suite) = (words.next()?, words.next()?);
        let fits = suite == codename && words.any(|component| component == "main");
        fits.then(|| Mirror {
            address: address.to_owned(),
            keys: keys.unwrap_or_else(|| KEYRING.to_owned()),
        })
    })
}

/// The first archive with `codename` and `main` in sources written as stanzas.
fn mirror_in_stanzas(text: &str, codename: &str) -> Option<Mirror> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    text.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let has = |name, wanted| {
            field(name).is_some_and(|value| value.split_whitespace().any(|word| word == wanted))
        };
        let enabled = field("Enabled").is_none_or(|value| value != "no");
        let fits = enabled && has("Types", "deb") && has("Suites", codename);
        if !fits || !has("Components", "main") {
            return None;
        }
        let keys = field("Signed-By").filter(|value| value.starts_with('/')).unwrap_or(KEYRING);
        let address = field("URIs")?.split_whitespace().next()?;
        Some(Mirror { address: address.to_owned(), keys: keys.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(address: &str, keys: &str) -> Mirror {
        Mirror { address: address.to_owned(), keys: keys.to_owned() }
    }

    #[test]
    fn the_systems_mirror_is_read_from_stanzas_not_from_other_archives() {
        let text = "Types: deb\nURIs: http://other.test/sdk\nSuites: nodistro\nComponents: main\n\n\
                    # comment\nTypes: deb\n# comment\nURIs: http://mirror.test/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n";
        let found = mirror_in_stanzas(text, "bookworm");
        assert_eq!(found, Some(mirror("http://mirror.test/debian", "/k.gpg")));
        assert_eq!(mirror_in_stanzas(text, "trixie"), None);
    }

    #[test]
    fn the_systems_mirror_is_read_from_lines() {
        let text = "# deb http://old.test/ bookworm main\n\
                    deb-src http://src.test/debian bookworm main\n\
                    deb https://tool.test/apt sdk-bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm contrib main\n";
        let found = mirror_in_lines(text, "bookworm");
        assert_eq!(found, Some(mirror("http://mirror.test/debian", "/k.gpg")));
        let plain = mirror_in_lines("deb http://m.test/d trixie main", "trixie");
        assert_eq!(plain, Some(mirror("http://m.test/d", KEYRING)));
    }

    #[test]
    fn the_kernel_is_the_newest_of_its_suite() {
        let madison = "linux-image-amd64 | 7.9.1-1 | http://m.test/d sid/main amd64 Packages\n\
                       linux-image-amd64 | 7.3.4-1~bpo13+1 | http://m.test/d trixie-backports/main amd64 Packages\n\
                       linux-image-amd64 | 6.12.107-1 | http://m.test/d trixie/main amd64 Packages\n";
        assert_eq!(newest_version(madison).as_deref(), Some("7.3.4-1~bpo13+1"));
        let shown = "Package: linux-image-amd64\nDepends: linux-base-amd64 (= 7.3.4-1~bpo13+1), \
                     linux-image-7.3.4+deb13-amd64 (= 7.3.4-1~bpo13+1), linux-modules-amd64\n";
        assert_eq!(release_in(shown).as_deref(), Some("7.3.4+deb13-amd64"));
    }

    #[test]
    fn names_of_packages_follow_from_the_version() {
        let kernel = Kernel {
            version: "7.3.4-1~bpo13+1".to_owned(),
            release: "7.3.4+deb13-amd64".to_owned(),
        };
        assert_eq!(kernel.packages()[1], "linux-source-7.3");
        assert_eq!(kernel.packages()[2], "linux-headers-7.3.4+deb13-amd64");
        assert_eq!(kernel.local_version(), "+deb13-amd64");
    }
}
