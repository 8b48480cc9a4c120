// SPDX-License-Identifier: MIT OR GPL-2.0
//! Module parameters that are words: the kernel crate's own are numbers only.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use kernel::{bindings, prelude::*};

/// Longest word, in bytes.
pub(crate) const LONGEST: usize = 256;

/// A word given when the module was loaded.
pub(crate) struct Text {
    bytes: [AtomicU8; LONGEST],
    length: AtomicUsize,
}

impl Text {
    /// No word.
    pub(crate) const fn new() -> Self {
        Self { bytes: [const { AtomicU8::new(0) }; LONGEST], length: AtomicUsize::new(0) }
    }

    /// Copies the word to `place` and returns it; empty if none was given or it is no text.
    pub(crate) fn read<'a>(&self, place: &'a mut [u8; LONGEST]) -> &'a str {
        for (to, from) in place.iter_mut().zip(&self.bytes) {
            *to = from.load(Ordering::Relaxed);
        }
        let word = place.get(..self.length.load(Ordering::Acquire)).unwrap_or(&[]);
        core::str::from_utf8(word).unwrap_or("")
    }

    fn write(&self, word: &[u8]) -> Result {
        if word.len() > LONGEST {
            return Err(EINVAL);
        }
        for (to, from) in self.bytes.iter().zip(word) {
            to.store(*from, Ordering::Relaxed);
        }
        self.length.store(word.len(), Ordering::Release);
        Ok(())
    }
}

/// A parameter as the kernel's loader finds it.
#[repr(transparent)]
pub(crate) struct Parameter(bindings::kernel_param);

// SAFETY: Only the loader reads it.
unsafe impl Sync for Parameter {}

impl Parameter {
    /// The parameter `name`, whose value goes to `text`.
    pub(crate) const fn new(
        name: &'static CStr,
        text: &'static Text,
        module: *mut bindings::module,
    ) -> Self {
        Self(bindings::kernel_param {
            name: kernel::str::as_char_ptr_in_const_context(name),
            mod_: module,
            ops: &OPS,
            perm: 0, // Not in sysfs.
            level: -1,
            flags: 0,
            __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
                arg: core::ptr::from_ref(text).cast_mut().cast(),
            },
        })
    }
}

static OPS: bindings::kernel_param_ops =
    bindings::kernel_param_ops { flags: 0, set: Some(set), get: None, free: None };

/// # Safety
///
/// `parameter` must have been made by [`Parameter::new`], `word` be null or end in NUL.
unsafe extern "C" fn set(
    word: *const kernel::ffi::c_char,
    parameter: *const bindings::kernel_param,
) -> kernel::ffi::c_int {
    if word.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: By the contract.
    let (word, text) =
        unsafe { (CStr::from_char_ptr(word), &*(*parameter).__bindgen_anon_1.arg.cast::<Text>()) };
    match text.write(word.to_bytes()) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Declares a word as a parameter: name in Rust, name on the command line, description.
macro_rules! text_parameter {
    ($static:ident, $name:literal, $description:literal) => {
        #[doc = $description]
        pub(crate) static $static: $crate::sys::text::Text = $crate::sys::text::Text::new();
        const _: () = {
            #[link_section = "__param"]
            #[used]
            static PARAMETER: $crate::sys::text::Parameter = $crate::sys::text::Parameter::new(
                match core::ffi::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                },
                &$static,
                <$crate::RmpoptModule as kernel::ModuleMetadata>::THIS_MODULE.as_ptr(),
            );
            const TYPE: &str = concat!("parmtype=", $name, ":charp\0");
            const TEXT: &str = concat!("parm=", $name, ":", $description, "\0");
            #[link_section = ".modinfo"]
            #[used]
            static PARAMETER_TYPE: [u8; TYPE.len()] = $crate::sys::text::array(TYPE);
            #[link_section = ".modinfo"]
            #[used]
            static PARAMETER_TEXT: [u8; TEXT.len()] = $crate::sys::text::array(TEXT);
        };
    };
}
pub(crate) use text_parameter;

/// The bytes of a text, by value.
pub(crate) const fn array<const N: usize>(text: &str) -> [u8; N] {
    let mut array = [0; N];
    let mut at = 0;
    while at < N {
        array[at] = text.as_bytes()[at];
        at = at.wrapping_add(1);
    }
    array
}
