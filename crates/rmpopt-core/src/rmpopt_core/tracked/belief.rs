//! What each core is believed to have.

use super::Tracked;
use crate::rmpopt_core::storage::{Bitmap, CoreCell, CoreState};
use crate::rmpopt_core::{CoreId, Storage, WindowMask};
use crate::snp_defs::Region;

impl<S: Storage> Tracked<S> {
    /// RMPUPDATE has cleared the region's bit on every core, or may have.
    pub(super) fn drop_belief(&mut self, region: Region) {
        for cell in self.storage.cores_mut() {
            if let Some(slot) = cell.window.slot(region) {
                cell.believed.remove(slot);
            }
        }
    }

    pub(super) fn believe(&mut self, core: CoreId, region: Region) {
        if let Some(cell) = self.storage.cores_mut().get_mut(core.index()) {
            if let Some(slot) = cell.window.slot(region) {
                cell.believed.insert(slot);
            }
        }
    }

    /// Clean regions of its window that a core lacks; none if RMPOPT does not run there.
    pub(super) fn missing(&self, cell: &CoreCell) -> WindowMask {
        if cell.state != CoreState::Enabled {
            return WindowMask::EMPTY;
        }
        WindowMask::of(Bitmap::Clean.of(&self.storage), cell.window).without(&cell.believed)
    }
}
