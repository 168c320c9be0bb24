//! The traits of `embedded-nal`: its client and server stacks over this session's sockets.
//!
//! Its sockets exist before they are bound or connected, ours are made by that step; [`NalTcp`]
//! and [`NalUdp`] stand for both. Its calls never block, whatever the socket's mode.

use core::net::SocketAddr;

use embedded_nal::nb;
use embedded_nal::{TcpClientStack, TcpError, TcpErrorKind, TcpFullStack};
use embedded_nal::{UdpClientStack, UdpFullStack};
use libipc::sock::Error;

use super::{IoError, Options, TcpListener, TcpStream, UdpSocket};
use crate::runtime::Runtime;

/// The program's sockets as an `embedded-nal` stack.
pub struct Stack {
    rt: &'static Runtime,
    /// For the sockets that it makes.
    pub options: Options,
}

impl Stack {
    /// The stack of this program.
    pub fn new(rt: &'static Runtime) -> Self {
        Self { rt, options: Options::default() }
    }
}

/// A TCP socket of a [`Stack`].
#[allow(clippy::large_enum_variant)] // A box would be an allocation for each socket.
pub enum NalTcp {
    /// Neither bound nor connected.
    New,
    /// To listen on this port.
    Bound(u16),
    /// Connected, or on the way.
    Stream(TcpStream),
    /// Listening.
    Listener(TcpListener),
}

/// A UDP socket of a [`Stack`]; `None`: neither bound nor connected.
pub struct NalUdp(Option<UdpSocket>);

impl TcpError for IoError {
    fn kind(&self) -> TcpErrorKind {
        match self.0 {
            Error::BrokenPipe | Error::ConnectionReset | Error::ConnectionAborted => {
                TcpErrorKind::PipeClosed
            }
            _ => TcpErrorKind::Other,
        }
    }
}

fn nb<T>(result: Result<T, Error>) -> nb::Result<T, IoError> {
    result.map_err(|e| match e {
        Error::WouldBlock => nb::Error::WouldBlock,
        e => nb::Error::Other(IoError(e)),
    })
}

fn any(port: u16) -> SocketAddr {
    ([0, 0, 0, 0], port).into()
}

fn stream(socket: &NalTcp) -> Result<&TcpStream, Error> {
    match socket {
        NalTcp::Stream(stream) => Ok(stream),
        _ => Err(Error::NotConnected),
    }
}

impl TcpClientStack for Stack {
    type TcpSocket = NalTcp;
    type Error = IoError;

    fn socket(&mut self) -> Result<NalTcp, IoError> {
        Ok(NalTcp::New)
    }

    fn connect(&mut self, socket: &mut NalTcp, remote: SocketAddr) -> nb::Result<(), IoError> {
        if let NalTcp::New = socket {
            let stream = nb(TcpStream::start_connect(self.rt, remote, self.options))?;
            stream.set_nonblocking(true);
            *socket = NalTcp::Stream(stream);
        }
        nb(stream(socket).and_then(TcpStream::try_connected))
    }

    fn send(&mut self, socket: &mut NalTcp, buffer: &[u8]) -> nb::Result<usize, IoError> {
        nb(stream(socket).and_then(|s| s.write(buffer)))
    }

    fn receive(&mut self, socket: &mut NalTcp, buffer: &mut [u8]) -> nb::Result<usize, IoError> {
        nb(stream(socket).and_then(|s| s.read(buffer)))
    }

    fn close(&mut self, socket: NalTcp) -> Result<(), IoError> {
        drop(socket);
        Ok(())
    }
}

impl TcpFullStack for Stack {
    fn bind(&mut self, socket: &mut NalTcp, local_port: u16) -> Result<(), IoError> {
        match socket {
            NalTcp::New => {
                *socket = NalTcp::Bound(local_port);
                Ok(())
            }
            _ => Err(IoError(Error::Invalid)),
        }
    }

    fn listen(&mut self, socket: &mut NalTcp) -> Result<(), IoError> {
        let NalTcp::Bound(port) = socket else { return Err(IoError(Error::Invalid)) };
        let listener = TcpListener::bind_with(self.rt, any(*port), self.options)?;
        listener.set_nonblocking(true);
        *socket = NalTcp::Listener(listener);
        Ok(())
    }

    fn accept(&mut self, socket: &mut NalTcp) -> nb::Result<(NalTcp, SocketAddr), IoError> {
        let NalTcp::Listener(listener) = socket else { return nb(Err(Error::Invalid)) };
        let (stream, peer) = nb(listener.accept())?;
        stream.set_nonblocking(true);
        Ok((NalTcp::Stream(stream), peer))
    }
}

impl Stack {
    /// The socket, bound to `port` if it is new.
    fn udp<'a>(&self, socket: &'a mut NalUdp, port: u16) -> Result<&'a UdpSocket, Error> {
        if socket.0.is_none() {
            let made = UdpSocket::bind_with(self.rt, any(port), self.options)?;
            made.set_nonblocking(true);
            socket.0 = Some(made);
        }
        socket.0.as_ref().ok_or(Error::Invalid)
    }
}

impl UdpClientStack for Stack {
    type UdpSocket = NalUdp;
    type Error = IoError;

    fn socket(&mut self) -> Result<NalUdp, IoError> {
        Ok(NalUdp(None))
    }

    fn connect(&mut self, socket: &mut NalUdp, remote: SocketAddr) -> Result<(), IoError> {
        Ok(self.udp(socket, 0)?.connect(remote)?)
    }

    fn send(&mut self, socket: &mut NalUdp, buffer: &[u8]) -> nb::Result<(), IoError> {
        nb(self.udp(socket, 0).and_then(|s| s.send(buffer)).map(|_| ()))
    }

    fn receive(
        &mut self,
        socket: &mut NalUdp,
        buffer: &mut [u8],
    ) -> nb::Result<(usize, SocketAddr), IoError> {
        nb(self.udp(socket, 0).and_then(|s| s.recv_from(buffer)))
    }

    fn close(&mut self, socket: NalUdp) -> Result<(), IoError> {
        drop(socket);
        Ok(())
    }
}

impl UdpFullStack for Stack {
    fn bind(&mut self, socket: &mut NalUdp, local_port: u16) -> Result<(), IoError> {
        match socket.0 {
            None => Ok(self.udp(socket, local_port).map(|_| ())?),
            Some(_) => Err(IoError(Error::Invalid)),
        }
    }

    fn send_to(
        &mut self,
        socket: &mut NalUdp,
        remote: SocketAddr,
        buffer: &[u8],
    ) -> nb::Result<(), IoError> {
        nb(self.udp(socket, 0).and_then(|s| s.send_to(buffer, remote)).map(|_| ()))
    }
}
