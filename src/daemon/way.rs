//! The way of orders to a thread that sleeps in poll(2).

use std::{fmt, io, sync::Arc};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Where orders are given. Nothing here blocks; the thread ends with its last handle.
pub(super) struct Way<O> {
    /// `None` while it is dropped.
    orders: Option<Sender<O>>,
    wake: Arc<EventFd>,
}

/// Where the thread takes them.
pub(super) struct Orders<O> {
    orders: Receiver<O>,
    wake: Arc<EventFd>,
}

/// Both ends.
///
/// # Errors
/// No descriptor can be had.
pub(super) fn way<O>() -> io::Result<(Way<O>, Orders<O>)> {
    let (sender, receiver) = unbounded();
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let wake = Arc::new(EventFd::from_flags(flags)?);
    let orders = Orders { orders: receiver, wake: Arc::clone(&wake) };
    Ok((Way { orders: Some(sender), wake }, orders))
}

impl<O> Way<O> {
    /// Gives an order.
    pub(super) fn send(&self, order: O) {
        // After the thread has ended there is nobody to tell; at a full counter it is awake anyway.
        if self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok()) {
            self.wake.write(1).unwrap_or_default();
        }
    }
}

impl<O> Drop for Way<O> {
    fn drop(&mut self) {
        // First, so that who is woken finds that nobody is left.
        self.orders = None;
        self.wake.write(1).unwrap_or_default();
    }
}

impl<O> fmt::Debug for Way<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

impl<O> Orders<O> {
    /// Those that have come; `None` when nobody is left to give any.
    pub(super) fn take(&self) -> Option<Vec<O>> {
        // Read before the orders, so that one that comes now wakes us again.
        self.wake.read().unwrap_or_default();
        let mut taken = Vec::new();
        loop {
            match self.orders.try_recv() {
                Ok(order) => taken.push(order),
                Err(TryRecvError::Empty) => return Some(taken),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }

    /// Becomes readable when there are some, or whoever has it writes to it.
    pub(super) fn wake(&self) -> &Arc<EventFd> {
        &self.wake
    }
}
