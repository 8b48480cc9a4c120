// SPDX-License-Identifier: MIT OR GPL-2.0
//! A folder in configfs with files of text.
//!
//! The kernel crate's own subsystem is not used: where the kernel refuses to register one (no memory,
//! or the name is taken) it unregisters what was never registered, which is an oops.

use core::marker::PhantomData;
use core::ptr::{null, null_mut};

use kernel::page::PAGE_SIZE;
use kernel::{
    bindings, container_of, error::to_result, prelude::*, static_lock_class, types::Opaque,
};

/// What the files of a folder are about.
pub(crate) trait Texts: Send + Sync + 'static {
    /// Writes a file's text to `page` and returns its length. May sleep.
    fn show(&self, file: usize, page: &mut [u8; PAGE_SIZE]) -> Result<usize>;
    /// What was written to a file, in one piece. May sleep.
    fn store(&self, file: usize, text: &[u8]) -> Result;
}

/// A file in a folder about a `T`.
pub(crate) struct File<T>(bindings::configfs_attribute, PhantomData<T>);

// SAFETY: Nobody writes to it.
unsafe impl<T> Sync for File<T> {}

impl<T: Texts> File<T> {
    /// The file of this number, to be read and, if `written`, written. It names no owner: while it is
    /// open the module can go, and using it is an error from then on.
    pub(crate) const fn new<const FILE: usize>(name: &'static CStr, written: bool) -> Self {
        let attribute = bindings::configfs_attribute {
            ca_name: kernel::str::as_char_ptr_in_const_context(name),
            ca_owner: null_mut(),
            ca_mode: 0o660,
            show: Some(show::<T, FILE>),
            store: if written { Some(store::<T, FILE>) } else { None },
        };
        Self(attribute, PhantomData)
    }
}

/// The files of a folder as the kernel takes them; one place more than there are files.
pub(crate) struct Files<T, const PLACES: usize>(
    [*mut bindings::configfs_attribute; PLACES],
    PhantomData<T>,
);

// SAFETY: Nobody writes to it, nor to what it points at.
unsafe impl<T, const PLACES: usize> Sync for Files<T, PLACES> {}

impl<T: Texts, const PLACES: usize> Files<T, PLACES> {
    /// All of these.
    pub(crate) const fn new<const COUNT: usize>(all: &'static [File<T>; COUNT]) -> Self {
        assert!(PLACES == COUNT.wrapping_add(1));
        let mut files = [null_mut(); PLACES];
        let mut file = 0;
        while file < COUNT {
            files[file] = (&raw const all[file].0).cast_mut();
            file = file.wrapping_add(1);
        }
        Self(files, PhantomData)
    }
}

/// The kernel's structures, and what the files are about.
struct Root<T> {
    subsystem: Opaque<bindings::configfs_subsystem>,
    kind: bindings::config_item_type,
    texts: T,
}

/// A folder, from its making to its end.
pub(crate) struct Folder<T: Texts>(KBox<Root<T>>);

// SAFETY: The kernel locks its structures; the texts are `Send` and `Sync`.
unsafe impl<T: Texts> Send for Folder<T> {}
// SAFETY: As above.
unsafe impl<T: Texts> Sync for Folder<T> {}

impl<T: Texts> Folder<T> {
    /// Makes the folder `name`. May sleep.
    pub(crate) fn new<const PLACES: usize>(
        name: &'static CStr,
        files: &'static Files<T, PLACES>,
        texts: T,
    ) -> Result<Self> {
        let kind = bindings::config_item_type {
            ct_owner: <crate::RmpoptModule as kernel::ModuleMetadata>::THIS_MODULE.as_ptr(),
            ct_item_ops: null(),
            ct_group_ops: null(),
            ct_attrs: files.0.as_ptr().cast_mut(),
            ct_bin_attrs: null_mut(),
        };
        let root = KBox::new(Root { subsystem: Opaque::zeroed(), kind, texts }, GFP_KERNEL)?;
        let subsystem = root.subsystem.get();
        // SAFETY: The structure is zeroed, and stays with the rest in its box until it is unregistered,
        // or for good if it is not registered. The files are about a `T`, as their type says; the list
        // of them ends in null. Names and keys are static.
        to_result(unsafe {
            bindings::config_group_init_type_name(
                &raw mut (*subsystem).su_group,
                name.as_char_ptr(),
                &raw const root.kind,
            );
            bindings::__mutex_init(
                &raw mut (*subsystem).su_mutex,
                name.as_char_ptr(),
                static_lock_class!().as_ptr(),
            );
            bindings::configfs_register_subsystem(subsystem)
        })?;
        Ok(Self(root))
    }
}

impl<T: Texts> Drop for Folder<T> {
    fn drop(&mut self) {
        // SAFETY: It was registered when this was made, and is unregistered once. The call waits for
        // files that are being read or written, and lets none be from then on.
        unsafe { bindings::configfs_unregister_subsystem(self.0.subsystem.get()) };
    }
}

/// # Safety
///
/// `item` must be that of a registered [`Root`], which stays for the call.
unsafe fn texts_of<'a, T>(item: *mut bindings::config_item) -> &'a T {
    // SAFETY: By the contract.
    unsafe {
        let group = container_of!(item, bindings::config_group, cg_item);
        let subsystem = container_of!(group, bindings::configfs_subsystem, su_group);
        &(*container_of!(Opaque::cast_from(subsystem), Root<T>, subsystem)).texts
    }
}

/// # Safety
///
/// As for [`texts_of`]; `page` must have room for a page.
unsafe extern "C" fn show<T: Texts, const FILE: usize>(
    item: *mut bindings::config_item,
    page: *mut kernel::ffi::c_char,
) -> isize {
    // SAFETY: By the contract.
    let shown = unsafe { texts_of::<T>(item).show(FILE, &mut *page.cast::<[u8; PAGE_SIZE]>()) };
    shown.map_or_else(|error| error.to_errno() as isize, |length| length as isize)
}

/// # Safety
///
/// As for [`texts_of`]; `text` must be valid for `length` bytes.
unsafe extern "C" fn store<T: Texts, const FILE: usize>(
    item: *mut bindings::config_item,
    text: *const kernel::ffi::c_char,
    length: usize,
) -> isize {
    // SAFETY: By the contract.
    let stored = unsafe {
        texts_of::<T>(item).store(FILE, core::slice::from_raw_parts(text.cast::<u8>(), length))
    };
    stored.map_or_else(|error| error.to_errno() as isize, |()| length as isize)
}
