//! The files as FUSE asks for them.
//!
//! A file's text is made when it is opened and stays what it is for that handle, so that a reader of
//! single bytes sees one moment. MSRs and CPUID are read when they are read. Nothing is cached by the
//! kernel but names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::content::{Content, Files};
use crate::node::Node;
use crate::tree::{Shape, Tree};

/// How long the kernel may keep what is there as long as the host.
const LASTING: Duration = Duration::from_secs(3600);
/// How long what may go: opening a file of it fails as it should meanwhile.
const PASSING: Duration = Duration::from_secs(10);
/// Most handles that are open at once.
const MAX_HANDLES: usize = 1 << 16;

#[derive(Debug)]
enum Handle {
    File(Content),
    Folder(Vec<(String, Node)>),
}

#[derive(Debug, Default)]
struct Handles {
    open: HashMap<u64, Arc<Handle>>,
    last: u64,
}

/// The filesystem of a host.
#[derive(Debug)]
pub(crate) struct HostFs {
    files: Files,
    handles: Mutex<Handles>,
    since: SystemTime,
}

impl HostFs {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, handles: Mutex::default(), since: SystemTime::now() }
    }

    fn tree(&self) -> &Tree {
        &self.files.tree
    }

    fn keep(&self, handle: Handle) -> Result<FileHandle, Errno> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.open.len() >= MAX_HANDLES {
            return Err(Errno::ENFILE);
        }
        handles.last += 1;
        let number = handles.last;
        handles.open.insert(number, Arc::new(handle));
        Ok(FileHandle(number))
    }

    fn handle(&self, number: FileHandle) -> Result<Arc<Handle>, Errno> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.open.get(&number.0).cloned().ok_or(Errno::EBADF)
    }

    fn close(&self, number: FileHandle) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&number.0);
    }

    fn node(&self, inode: INodeNo) -> Result<(Node, Shape), Errno> {
        let node = Node::of_inode(inode.0).ok_or(Errno::ENOENT)?;
        let shape = self.tree().shape(node).ok_or(Errno::ENOENT)?;
        Ok((node, shape))
    }

    fn attributes(&self, node: Node, shape: &Shape) -> FileAttr {
        let (kind, perm, size, nlink) = match shape {
            Shape::Folder => (FileType::Directory, 0o555, 0, 2),
            // As sysfs: the size says nothing of what can be read.
            Shape::File(mode) => (FileType::RegularFile, *mode, 4096, 1),
            Shape::Link(to) => (FileType::Symlink, 0o777, to.len() as u64, 1),
        };
        FileAttr {
            ino: INodeNo(node.inode()),
            size,
            blocks: 0,
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn open_file(&self, inode: INodeNo, flags: OpenFlags) -> Result<FileHandle, Errno> {
        let (node, shape) = self.node(inode)?;
        if shape == Shape::Folder {
            return Err(Errno::EISDIR);
        }
        let content = match self.files.open(node) {
            // Who only writes need not wait for a text.
            Ok(Content::Text(_)) if flags.acc_mode() == OpenAccMode::O_WRONLY => {
                Content::Text(Arc::default())
            }
            content => content?,
        };
        self.keep(Handle::File(content))
    }
}

fn ttl(node: Node) -> &'static Duration {
    if Tree::is_lasting(node) { &LASTING } else { &PASSING }
}

impl Filesystem for HostFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let child = Node::of_inode(parent.0)
            .and_then(|parent| self.tree().lookup(parent, name.to_str()?))
            .and_then(|child| Some((child, self.tree().shape(child)?)));
        match child {
            Some((child, shape)) => {
                reply.entry(ttl(child), &self.attributes(child, &shape), Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino) {
            Ok((node, shape)) => reply.attr(ttl(node), &self.attributes(node, &shape)),
            Err(error) => reply.error(error),
        }
    }

    /// Truncating is what a shell does before it writes; nothing else can be set.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.node(ino) {
            Ok(_) if mode.is_some() || uid.is_some() || gid.is_some() => reply.error(Errno::EPERM),
            Ok((node, shape)) => reply.attr(ttl(node), &self.attributes(node, &shape)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.node(ino) {
            Ok((_, Shape::Link(to))) => reply.data(to.as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(ino, flags) {
            Ok(handle) => {
                reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.handle(fh).and_then(|handle| match &*handle {
            Handle::File(content) => self.files.read(content, offset, size),
            Handle::Folder(_) => Err(Errno::EISDIR),
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.node(ino).and_then(|(node, _)| self.files.write(node, offset, data)) {
            Ok(taken) => reply.written(taken),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.close(fh);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.node(ino).and_then(|(node, _)| {
            let own = [(".".to_owned(), node), ("..".to_owned(), Node::ROOT)];
            let all = own.into_iter().chain(self.tree().list(node)).collect();
            self.keep(Handle::Folder(all))
        });
        match opened {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let handle = match self.handle(fh) {
            Ok(handle) => handle,
            Err(error) => return reply.error(error),
        };
        let Handle::Folder(names) = &*handle else { return reply.error(Errno::ENOTDIR) };
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        for (n, (name, node)) in names.iter().enumerate().skip(first) {
            let kind = match self.tree().shape(*node) {
                Some(Shape::File(_)) => FileType::RegularFile,
                Some(Shape::Link(_)) => FileType::Symlink,
                Some(Shape::Folder) | None => FileType::Directory,
            };
            if reply.add(INodeNo(node.inode()), n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.close(fh);
        reply.ok();
    }

    // The host's tree is what it is.

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }
}
