//! A connection between the two processes: messages behind their length, with descriptors beside them (SCM_RIGHTS), each within a deadline.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use tokio::{io::Interest, net::UnixStream, time};

use super::{Passed, broken, message::Message};
use crate::config::limits;

const LENGTH_BYTES: usize = 4;
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(limits::HANDOVER_BATCH));

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// The user at the other end, as the kernel knows it. (Not through rustix: its type for this can't hold a process of another PID namespace, whose
    /// number is 0.)
    pub(super) fn peer(&self) -> io::Result<u32> {
        Ok(self.0.peer_cred()?.uid())
    }

    pub(super) async fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        within(limits::HANDOVER_STEP_TIMEOUT, self.write(message, sockets)).await
    }

    /// Sends references to these sockets, in as many messages as it takes.
    pub(super) async fn pass(&self, sockets: &[Passed]) -> io::Result<()> {
        for batch in sockets.chunks(limits::HANDOVER_BATCH) {
            let kinds = batch.iter().map(|passed| passed.kind).collect();
            let sockets: Vec<_> = batch.iter().map(|passed| &passed.socket).collect();
            self.send(&Message::Sockets { kinds }, &lend(&sockets)).await?;
        }
        Ok(())
    }

    pub(super) async fn receive(&self, deadline: Duration) -> io::Result<(Message, Vec<OwnedFd>)> {
        within(deadline, self.receive_whenever()).await
    }

    /// Without a deadline: for what the other side says only when something has happened there. Its end is noticed.
    pub(super) async fn receive_whenever(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut sockets = Vec::new();
        let mut length = [0; LENGTH_BYTES];
        self.read(&mut length, &mut sockets).await?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(broken)?;
        if length > limits::HANDOVER_MESSAGE_BYTES {
            return Err(broken(format_args!("a message of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.read(&mut bytes, &mut sockets).await?;
        Ok((Message::from_bytes(&bytes)?, sockets))
    }

    /// Resolves when the other side has ended; nothing more is to come from it before.
    pub(super) async fn ended(&self) {
        // Whatever it is: an end, an error, or a byte that nobody asked for.
        let _ = self.read(&mut [0], &mut Vec::new()).await;
    }

    async fn write(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let message = message.to_bytes()?;
        let mut bytes = u32::try_from(message.len()).map_err(broken)?.to_be_bytes().to_vec();
        bytes.extend(message);
        // The descriptors go with the first byte.
        let mut rest = bytes.as_slice();
        let mut sockets = sockets;
        while !rest.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
                    return Err(broken("too many sockets for one message"));
                }
                Ok(sendmsg(&self.0, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)?)
            });
            rest = rest.get(written.await?..).unwrap_or_default();
            sockets = &[];
        }
        Ok(())
    }

    /// Fills the buffer, and keeps the descriptors that come with its bytes.
    async fn read(&self, buffer: &mut [u8], sockets: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            let count = self.0.async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let received = recvmsg(&self.0, &mut [IoSliceMut::new(room)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                        sockets.extend(descriptors);
                    }
                }
                if received.flags.contains(ReturnFlags::CTRUNC) {
                    return Err(broken("more sockets in a message than agreed, or than this process may open"));
                }
                Ok(received.bytes)
            });
            match count.await? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has ended")),
                count => filled += count,
            }
        }
        Ok(())
    }
}

/// The descriptors as they are lent to [`Channel::send`].
pub(super) fn lend<F: AsFd>(sockets: &[F]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(AsFd::as_fd).collect()
}

async fn within<T>(deadline: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    time::timeout(deadline, step).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("the other process doesn't answer within {} s", deadline.as_secs())))
    })
}
