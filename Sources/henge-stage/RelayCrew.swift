import CLinux
import Glibc
import Linux
import StageProtocol
import Synchronization

/// What a relay's threads have in common.
final class RelayCommon: @unchecked Sendable {
  /// Added to by all of them (`clinux_add`).
  let counters: UnsafeMutablePointer<UInt64>
  /// What helpers tell the first thread.
  let main: Inbox
  /// Nil where there is no broker.
  let offers: RelayOffers?
  /// A listener waits for a descriptor to become free.
  private let isStarved = Atomic<Bool>(false)

  init(counters: UnsafeMutablePointer<UInt64>, main: Inbox, offers: RelayOffers?) {
    self.counters = counters
    self.main = main
    self.offers = offers
  }

  /// Before the last try to take a connection: whoever gives a descriptor back after that sees it.
  func markStarved() { isStarved.store(true, ordering: .sequentiallyConsistent) }

  /// After descriptors were closed.
  func gaveBack() {
    guard isStarved.load(ordering: .sequentiallyConsistent) else { return }
    if isStarved.exchange(false, ordering: .sequentiallyConsistent) { main.put(.feed) }
  }
}

/// What threads tell each other.
enum RelayNote: Sendable {
  /// To a helper: a connection, what publication it came by, and whom to try in turn.
  case carry(Arrival, publication: UInt32)
  /// To a helper: end what came by this publication.
  case withdraw(UInt32)
  /// To the first thread: there are descriptors again.
  case feed
  /// To the first thread: a helper cannot go on.
  case failed(Failure)
}

/// Notes for a thread, and what wakes it.
final class Inbox: Sendable {
  let event: Descriptor
  private let notes = Mutex<[RelayNote]>([])

  init() throws(Failure) {
    event = Descriptor(adopting: try check(clinux_event_make(), "make", "an eventfd"))
  }

  func put(_ note: RelayNote) {
    let isFirst = notes.withLock { notes in
      notes.append(note)
      return notes.count == 1
    }
    if isFirst { clinux_event_raise(event.raw) }
  }

  func take() -> [RelayNote] {
    clinux_event_clear(event.raw)
    return notes.withLock { notes in
      defer { notes = [] }
      return notes
    }
  }
}

/// A thread that carries some of the connections.
final class RelayHelper: Sendable {
  let inbox: Inbox
  /// How many connections it was given and has not ended.
  let load = Atomic<Int>(0)
  private let common: RelayCommon

  init(_ common: RelayCommon) throws(Failure) {
    self.common = common
    inbox = try Inbox()
    var thread = pthread_t()
    let own = Unmanaged.passRetained(self)
    let result = pthread_create(
      &thread, nil,
      { raw in
        if let raw { Unmanaged<RelayHelper>.fromOpaque(raw).takeRetainedValue().run() }
        return nil
      }, own.toOpaque())
    guard result == 0 else {
      own.release()
      throw Failure("start", "a thread", errno: .init(rawValue: result))
    }
    pthread_detach(thread)
  }

  private func run() {
    do throws(Failure) {
      let loop = try RelayLoop(common)
      var groups: [UInt32: StreamGroup] = [:]
      let isWatching = loop.watch(inbox) { [unowned self] note in
        switch note {
        case .carry(let arrival, let publication):
          let group =
            groups[publication]
            ?? StreamGroup(loop) { [unowned self] in load.subtract(1, ordering: .relaxed) }
          groups[publication] = group
          group.begin(arrival)
        case .withdraw(let publication): groups.removeValue(forKey: publication)?.close()
        case .feed, .failed: break
        }
      }
      guard isWatching else { throw Failure("watch", "an inbox", errno: .init(rawValue: errno)) }
      while true { try loop.turn(waitingFor: -1) }
    } catch {
      common.main.put(.failed(error))
    }
  }
}

/// The helpers of a relay: there as soon as there are connections for more than one thread, and not before.
final class RelayCrew {
  private let common: RelayCommon
  private var helpers: [RelayHelper] = []
  /// As many threads as there are processors, up to four. Each is another that is shared with machines.
  private var most = max(0, min(4, Int(clinux_own_processors())) - 1)

  init(_ common: RelayCommon) { self.common = common }

  /// Whom to give a connection: who has the fewest, and the first thread, which has so many itself, where that is equal:
  /// nobody has to be woken for it.
  func helper(below load: Int) -> RelayHelper? {
    guard load > 0 else { return nil }
    let loads = helpers.map { $0.load.load(ordering: .relaxed) }
    if loads.allSatisfy({ $0 > 0 }), helpers.count < most {
      do throws(Failure) {
        helpers.append(try RelayHelper(common))
        return helpers.last
      } catch {
        // Those that there are will do.
        most = helpers.count
      }
    }
    guard let least = loads.indices.min(by: { loads[$0] < loads[$1] }), loads[least] < load else { return nil }
    return helpers[least]
  }

  func withdraw(_ publication: UInt32) {
    for helper in helpers { helper.inbox.put(.withdraw(publication)) }
  }
}
