// SPDX-License-Identifier: MIT OR GPL-2.0
//! Files in debugfs, below `x86/`.
//!
//! The kernel crate's own files are not used: they name no owner, so that closing one that was open
//! when its module went is an oops. These keep the module in place while they are open.

use core::ffi::c_void;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Deref;

#[cfg(emulate)]
use kernel::uaccess::{UserPtr, UserSlice};
use kernel::{bindings, prelude::*, sync::Arc, ModuleMetadata};

/// Longest text that one write may bring, in bytes.
const LONGEST: usize = 64 * 1024;

/// A file of rows, produced as it is read.
pub(crate) trait Rows: 'static {
    /// What the rows are made of.
    type Data: Sync + 'static;
    /// File name.
    const NAME: &'static CStr;
    /// How many rows there are.
    fn count(data: &Self::Data) -> u64;
    /// Writes one row. An error only says that there was no room: the row is asked for again.
    fn row(data: &Self::Data, row: u64, out: &mut Out<'_>) -> fmt::Result;
}

/// A file that takes commands.
#[cfg(emulate)]
pub(crate) trait Commands: 'static {
    /// What they concern.
    type Data: Sync + 'static;
    /// File name.
    const NAME: &'static CStr;
    /// What was written, in one piece. May sleep.
    fn write(data: &Self::Data, text: &[u8]) -> Result;
}

/// Where a row is written to.
pub(crate) struct Out<'a>(*mut bindings::seq_file, PhantomData<&'a mut bindings::seq_file>);

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: The file is valid for as long as this type, and `text` for the call.
        let refused = unsafe { bindings::seq_write(self.0, text.as_ptr().cast(), text.len()) };
        if refused == 0 {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

/// A folder.
#[derive(Clone, Copy)]
pub(crate) struct Folder(*mut bindings::dentry);

/// Data with a folder of files about it, which go before it does.
pub(crate) struct Served<T: Sync + 'static> {
    folder: Folder,
    data: Arc<T>,
}

// SAFETY: A folder may be used and removed from any thread.
unsafe impl<T: Send + Sync> Send for Served<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Served<T> {}

impl<T: Sync + 'static> Deref for Served<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Sync + 'static> Served<T> {
    /// An empty folder `name`. Where debugfs is off or refuses, there are no files, and no error:
    /// nothing but an operator's sight depends on them.
    pub(crate) fn new(name: &CStr, data: Arc<T>) -> Self {
        // SAFETY: The name ends in NUL; the parent is the kernel's own folder. A failed creation
        // gives a pointer that later calls know.
        let folder =
            unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), bindings::arch_debugfs_dir) };
        Self { folder: Folder(folder), data }
    }

    /// The data, for others that serve it; they are gone before this is.
    pub(crate) fn shared(&self) -> Arc<T> {
        self.data.clone()
    }

    /// The folder made with it.
    pub(crate) fn folder(&self) -> Folder {
        self.folder
    }

    /// A folder in a folder; it goes with it.
    #[cfg(emulate)]
    pub(crate) fn sub_folder(&self, name: &CStr) -> Folder {
        // SAFETY: As in `new`; the parent is ours.
        Folder(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), self.folder.0) })
    }

    /// A file to read, for root only.
    pub(crate) fn rows<R: Rows<Data = T>>(&self, folder: Folder) {
        self.file(folder, R::NAME, 0o400, &RowsOps::<R>::FILE);
    }

    /// A file to write, for root only.
    #[cfg(emulate)]
    pub(crate) fn commands<C: Commands<Data = T>>(&self, folder: Folder) {
        self.file(folder, C::NAME, 0o200, &CommandOps::<C>::FILE);
    }

    fn file(
        &self,
        folder: Folder,
        name: &CStr,
        mode: u16,
        operations: &'static bindings::file_operations,
    ) {
        let data = core::ptr::from_ref::<T>(&self.data).cast_mut().cast::<c_void>();
        // SAFETY: The name ends in NUL. The data is pinned and lives as long as `self`, whose drop
        // removes the files first; the operations of `file`'s callers take data of this type.
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                mode,
                folder.0,
                data,
                core::ptr::null(),
                operations,
            )
        };
    }
}

impl<T: Sync + 'static> Drop for Served<T> {
    fn drop(&mut self) {
        // SAFETY: The folder came from `debugfs_create_dir` and is removed once, with all in it;
        // the call waits for operations under way.
        unsafe { bindings::debugfs_remove(self.folder.0) };
    }
}

/// Operations that do nothing but keep the module in place.
const fn bare() -> bindings::file_operations {
    // SAFETY: All pointers of the structure may be null, all numbers 0.
    let mut operations: bindings::file_operations = unsafe { MaybeUninit::zeroed().assume_init() };
    operations.owner = <crate::RmpoptModule as ModuleMetadata>::THIS_MODULE.as_ptr();
    operations
}

struct RowsOps<R>(PhantomData<R>);

impl<R: Rows> RowsOps<R> {
    const FILE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::seq_release),
        ..bare()
    };

    const ROWS: bindings::seq_operations = bindings::seq_operations {
        start: Some(Self::start),
        next: Some(Self::next),
        stop: Some(Self::stop),
        show: Some(Self::show),
    };

    /// # Safety
    ///
    /// `inode` must be one that `Served::rows` made for `R`, `file` the file being opened.
    unsafe extern "C" fn open(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the contract; `seq_open` puts a `seq_file` into `private_data`.
        unsafe {
            let opened = bindings::seq_open(file, &Self::ROWS);
            if opened == 0 {
                let seq = (*file).private_data.cast::<bindings::seq_file>();
                (*seq).private = (*inode).i_private;
            }
            opened
        }
    }

    /// # Safety
    ///
    /// `seq` must come from `open`.
    unsafe fn data<'a>(seq: *mut bindings::seq_file) -> &'a R::Data {
        // SAFETY: By the contract `private` is the data, which outlives the open file's operations.
        unsafe { &*(*seq).private.cast::<R::Data>() }
    }

    /// # Safety
    ///
    /// As for `data`; `position` must be valid.
    unsafe extern "C" fn start(
        seq: *mut bindings::seq_file,
        position: *mut bindings::loff_t,
    ) -> *mut c_void {
        // SAFETY: By the contract.
        let (data, row) = unsafe { (Self::data(seq), *position) };
        match u64::try_from(row) {
            // Any pointer but null will do: it is only given back to us.
            Ok(row) if row < R::count(data) => core::ptr::without_provenance_mut(1),
            _ => core::ptr::null_mut(),
        }
    }

    /// # Safety
    ///
    /// As for `start`.
    unsafe extern "C" fn next(
        seq: *mut bindings::seq_file,
        _: *mut c_void,
        position: *mut bindings::loff_t,
    ) -> *mut c_void {
        // SAFETY: By the contract.
        unsafe {
            *position = (*position).saturating_add(1);
            Self::start(seq, position)
        }
    }

    /// # Safety
    ///
    /// None.
    unsafe extern "C" fn stop(_: *mut bindings::seq_file, _: *mut c_void) {}

    /// # Safety
    ///
    /// As for `data`.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> kernel::ffi::c_int {
        // SAFETY: By the contract.
        let (data, row) = unsafe { (Self::data(seq), (*seq).index) };
        // Without room the kernel sees its buffer full, and asks again with a larger one.
        let _ = R::row(data, u64::try_from(row).unwrap_or(0), &mut Out(seq, PhantomData));
        0
    }
}

#[cfg(emulate)]
struct CommandOps<C>(PhantomData<C>);

#[cfg(emulate)]
impl<C: Commands> CommandOps<C> {
    const FILE: bindings::file_operations = bindings::file_operations {
        open: Some(bindings::simple_open),
        write: Some(Self::write),
        ..bare()
    };

    /// # Safety
    ///
    /// `file` must have been opened by `simple_open` on an inode that `Served::commands` made for `C`;
    /// `text` is an address of user space.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        text: *const kernel::ffi::c_char,
        length: usize,
        _: *mut bindings::loff_t,
    ) -> isize {
        let write = || -> Result<isize> {
            if length > LONGEST {
                return Err(E2BIG);
            }
            let mut bytes = KVec::new();
            let from = UserPtr::from_ptr(text.cast_mut().cast());
            UserSlice::new(from, length).read_all(&mut bytes, GFP_KERNEL)?;
            // SAFETY: By the contract; the data outlives the open file's operations.
            let data = unsafe { &*(*file).private_data.cast::<C::Data>() };
            C::write(data, &bytes)?;
            Ok(length as isize)
        };
        write().unwrap_or_else(|error| error.to_errno() as isize)
    }
}
