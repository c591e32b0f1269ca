import CLinux
import Glibc
import Linux
import StageProtocol

/// Becomes what carries a machine's traffic. Nothing of the machine's runs in this process, and it is in none of the
/// machine's namespaces but the user namespace: so it has no capability over the host, and to the machine it is not
/// there.
func carry(_ bytes: [UInt8], userNamespace: UserNamespace, channel: Channel) throws(Failure) {
  let request: CarrierRequest
  do {
    request = try CarrierRequest(decoding: bytes)
  } catch {
    throw Failure("read", "the request", "expected \(error.expected)")
  }
  switch request {
  case .forward(let forward): try become(forward, userNamespace: userNamespace)
  case .relay(let relay): try run(relay, userNamespace: userNamespace, channel: channel)
  case .broker(let broker): try run(broker, userNamespace: userNamespace)
  case .attach(let request): try attach(request)
  }
}

/// Ties this process to its supervisor; again after each change of ids, which unties it.
func follow(_ supervisor: Int32) throws(Failure) {
  try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the supervisor")
  // It may have ended before the kernel was told.
  if getppid() != supervisor { exit(1) }
}

/// The tap device is made before the forwarder runs, and outlives it: what the machine has built upon the interface,
/// its addresses and its routes stay while a forwarder that ended is being replaced.
private func become(_ request: ForwardRequest, userNamespace: UserNamespace) throws(Failure) {
  let network = Descriptor(adopting: CarrierDescriptor.network)
  try enterSmallRoot(on: request.workplace, withPrograms: true)
  let child = clinux_fork()
  try check(child, "fork")
  if child == 0 {
    try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the parent")
    try joinNamespaces(network, .network)
    try prepare(request.tap)
    exit(0)
  }
  guard waitFor(child) == 0 else { exit(1) }

  try joinNamespaces(userNamespace.descriptor, .user)
  try check(clinux_become(0, 0), "become", "the machine's root")
  try check(clinux_set_no_new_privileges(), "give up", "new privileges")
  try follow(request.supervisor)
  clinux_reset_signals()
  umask(0o077)
  try check(clinux_close_range(3, true), "close descriptors")
  for kept in [CarrierDescriptor.network, CarrierDescriptor.extra] {
    try check(fcntl(kept, F_SETFD, 0), "keep a descriptor")
  }
  let result = withCStrings(request.arguments) { arguments in
    withCStrings(["PATH=/usr/bin"]) { clinux_execute(request.program, arguments, $0) }
  }
  let number = errno
  // Until here: it is open for the forwarder.
  withExtendedLifetime(network) {}
  if result < 0 { throw Failure("execute", request.program, errno: .init(rawValue: number)) }
}

/// In the machine's network namespace, with the host's rights: the host may keep `/dev/net/tun` for its root.
private func prepare(_ tap: MachineInterface) throws(Failure) {
  let device = try Descriptor.open("/dev/net/tun", .readWrite)
  try check(clinux_tap_make(device.raw, tap.name), "make the tap device", tap.name)
  // A forwarder that is busy, or just being started again, answers late, and nobody else ever will: after the usual 3 s
  // every connection under way would be told that there is no route.
  for setting in ["ipv4", "ipv6"].flatMap({ ["\($0)/neigh/\(tap.name)/ucast", "\($0)/neigh/\(tap.name)/mcast"] }) {
    write("30", toSetting: "\(setting)_solicit")
  }
  try settle(tap)
}

/// In the machine's network namespace: an interface that is there gets everything else.
private func settle(_ interface: MachineInterface) throws(Failure) {
  let loopback = clinux_interface_index("lo")
  if loopback > 0 { _ = clinux_interface_set_up(loopback, nil, 0) }
  let index = try bringUp(interface.name, interface.hardware, interface.mtu, interface.addresses)
  for gateway in interface.gateways {
    let result = clinux_route_add_default(index, gateway, gateway.count)
    if gateway.count == 4 { try check(result, "set the default route of", interface.name) }
  }
}

private func bringUp(
  _ name: String, _ hardware: [UInt8], _ mtu: UInt32, _ addresses: [InterfaceAddress]
) throws(Failure) -> UInt32 {
  let index = clinux_interface_index(name)
  guard index > 0 else { throw Failure("find", name, "it is gone") }
  // Its addresses are ours to give: an advertisement from the other side would add a second one.
  write("0", toSetting: "ipv6/conf/\(name)/accept_ra")
  let result =
    hardware.isEmpty ? clinux_interface_set_up(index, nil, mtu) : clinux_interface_set_up(index, hardware, mtu)
  try check(result, "bring up", name)
  for address in addresses {
    let result = clinux_address_add(index, address.bytes, address.bytes.count, UInt32(address.prefix))
    // A kernel without IPv6 does without it.
    if address.bytes.count == 4 { try check(result, "give an address to", name) }
  }
  return index
}

/// Makes a pair, from the host's side, and sets up both ends; or only what is in the machine's network namespace.
private func attach(_ request: AttachRequest) throws(Failure) -> Never {
  let network = Descriptor(adopting: CarrierDescriptor.network)
  try follow(request.supervisor)
  if let end = request.hostEnd {
    // Of a run whose network namespace is still on its way out.
    let old = clinux_interface_index(end.name)
    if old > 0 { try check(clinux_interface_remove(old), "remove", end.name) }
    try check(clinux_veth_make(end.name, request.interface.name, network.raw), "make the pair", end.name)
    _ = try bringUp(end.name, end.hardware, request.interface.mtu, end.addresses)
  }
  try joinNamespaces(network, .network)
  try settle(request.interface)
  exit(0)
}

private func write(_ value: String, toSetting name: String) {
  guard let file = try? Descriptor.open("/proc/sys/net/\(name)", .write) else { return }
  try? file.writeAll(value.utf8, subject: name)
}
