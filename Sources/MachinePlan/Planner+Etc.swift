import MachineSpec
import StageProtocol

/// The few files of the machine's `/etc` that follow the host, each by an explicit mode.
extension Planner {
  mutating func shapeEtc() {
    shapeResolvConf()
    shapeTimezone()
  }

  private mutating func shapeResolvConf() {
    let path = "/etc/resolv.conf"
    let source: String
    switch spec.exec.resolvConf {
    // A network of its own has nothing to do with the host's servers: see `shapeNetwork`.
    case .off, .auto: return
    case .delete: return operations.append(.remove(path))
    case .copyHost, .replaceHost, .bindHost: source = path
    case .copyStatic, .replaceStatic, .bindStatic: source = "/usr/lib/systemd/resolv.conf"
    case .copyUplink, .replaceUplink, .bindUplink: source = "/run/systemd/resolve/resolv.conf"
    case .copyStub, .replaceStub, .bindStub: source = "/run/systemd/resolve/stub-resolv.conf"
    }
    switch spec.exec.resolvConf {
    case .bindHost, .bindStatic, .bindUplink, .bindStub: operations.append(showReadOnly(source, at: path))
    default: operations.append(.copy(source: source, path: path, mode: 0o644))
    }
  }

  private mutating func shapeTimezone() {
    let path = "/etc/localtime"
    switch spec.exec.timezone {
    case .off: break
    case .delete: operations.append(.remove(path))
    case .copy: operations.append(.copy(source: path, path: path, mode: 0o644))
    case .bind: operations.append(showReadOnly(path, at: path))
    case .symlink, .auto:
      // Where the host has no named zone there is nothing to link to; `auto` leaves a read-only root alone too.
      guard let zone = host.timezone, spec.exec.timezone == .symlink || spec.files.volatile == .no else { return }
      operations.append(
        .linkIfThere("/etc/localtime", target: "../usr/share/zoneinfo/\(zone)", needs: "/usr/share/zoneinfo/\(zone)"))
    }
  }

  private func showReadOnly(_ source: String, at path: String) -> SetupOperation {
    .bind(
      Bind(
        source: source, path: path, recursive: false, mapped: false, optional: false,
        attributes: [.readOnly, .noSetID, .noExecute]))
  }
}
