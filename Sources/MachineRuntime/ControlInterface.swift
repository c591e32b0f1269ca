import Varlink

extension InterfaceDescription {
  /// What a supervisor answers on its control socket.
  static let machine = InterfaceDescription(
    name: "io.henge.Machine",
    definitions: """
      # A unit of the machine that failed, with the end of what it logged
      type FailedUnit (name: string, description: string, lines: []string)

      # A unit of the machine
      type Unit (name: string, description: string, load: string, active: string, sub: string)

      # What was bound into the machine while it runs
      type Bind (path: string, source: string, readOnly: bool)

      # A moment of the start on the monotonic clock, in microseconds
      type Moment (name: string, at: int)

      # What there is to know of a machine that runs
      type State (
        name: string,
        uuid: string,
        state: string,
        leader: ?int,
        supervisor: int,
        started: int,
        restarts: int,
        cgroup: ?string,
        uidBase: int,
        uidCount: int,
        status: string,
        bus: ?string,
        network: ?string,
        networkState: ?object,
        binds: []Bind,
        failedUnits: []FailedUnit,
        moments: []Moment
      )

      # A step on the way of a start or a stop: the state, and the unit that came up last
      type Progress (state: string, unit: ?string, units: int, status: string)

      # Starts the machine whose supervisor was just started; with more, tells the progress, unit by unit if asked to.
      # Answers at the goal:
      # "executed" once process 1 runs, "running" once its systemd is done
      method Start(overrides: ?[]string, goal: ?string, progress: ?bool) -> (state: ?State, progress: ?Progress, warnings: ?[]string)

      # Answers once the machine is "running" (or degraded) or "stopped"; with more, tells the progress
      method Wait(goal: string) -> (state: ?State, progress: ?Progress)

      # Answers once a unit of the machine is active, and fails once it has failed, or when there is none of that name
      method WaitUnit(unit: string) -> (unit: Unit)

      # Stops all processes of the machine where they stand, and answers when they do
      method Freeze() -> (state: State)

      # Lets the processes of a frozen machine go on
      method Thaw() -> (state: State)

      # Stops the machine in good order and answers when nothing of it is left
      method PowerOff() -> (state: ?State, progress: ?Progress)

      # Stops the machine in good order and starts it again; answers when it is up
      method Reboot() -> (state: ?State, progress: ?Progress)

      # Kills everything of the machine and answers when nothing of it is left
      method Terminate() -> (state: ?State, progress: ?Progress)

      # Sends a signal to the leader, or to all processes of the machine
      method Kill(whom: string, signal: int) -> ()

      # Attaches a mount in the machine: a detached tree, as of open_tree(2), that comes along as a descriptor; source is
      # what to call it. Mapped shows files of the host's id N as the machine's id N
      method Bind(path: string, source: string, readOnly: ?bool, mapped: ?bool, mkdir: ?bool) -> ()

      # Detaches what Bind attached
      method Unbind(path: string, lazy: ?bool) -> ()

      # What there is to know
      method GetState() -> (state: State)

      # Changes limits, KEY=VALUE each in the words of [Resources], all or none; with persist also the spec. Answers when
      # they hold
      method SetLimits(limits: []string, persist: ?bool) -> (warnings: []string)

      # The ports of the host that lead into the machine
      method ListPorts() -> (ports: []string)

      # Publishes a port of the host, written as in the spec, until the machine stops
      method AddPort(port: string) -> (ports: []string)

      # Takes a published port back
      method RemovePort(port: string) -> (ports: []string)

      # The units of the machine, as its systemd lists them
      method ListUnits() -> (units: []Unit)

      # Makes the trees of a stream in the machine, at a path of the machine's; one end of a pipe comes along with the
      # call. Not complete is what the other end gave up
      method CopyTo(path: string, options: ?[]string) -> (entries: int, bytes: int, complete: bool, notes: []string)

      # Writes trees of the machine to a stream, of which one end comes along with the call
      method CopyFrom(paths: []string, options: ?[]string) -> (entries: int, bytes: int, complete: bool, notes: []string)

      # The leader's pidfd comes along, and the folders of the machine's journal as detached mounts: these are their paths
      method OpenJournal() -> (folders: []string)

      # Attaches to the console. Along come: a stream, both ways; then the console's log, of which the first bytes, as
      # many as told, are what was printed before; and where there is one the log before that. With more, the last reply
      # comes without them when the machine has stopped
      method OpenConsole() -> (logged: ?int)

      # Sets the size of the console's terminal, in characters
      method ResizeConsole(columns: int, rows: int) -> ()

      # The size of a terminal in characters
      type TerminalSize (columns: int, rows: int)

      # Runs a command in the machine as a transient service of its systemd, and answers with its exit status or the
      # signal that ended it; a message says why it did not run. Without command, a session has the user's shell.
      # A stream is "null", or "pipe" for the next of the pipes that come along, which must have been made for this
      # call; "direct" for one that others have, too, open in one direction. With a terminal, and more, the first reply passes the controlling side of a terminal of the machine's.
      # The command ends when the connection is closed.
      method Execute(
        command: []string,
        user: ?string,
        directory: ?string,
        environment: ?[]string,
        session: ?bool,
        streams: ?[]string,
        terminal: ?TerminalSize,
        timeout: ?int
      ) -> (terminal: ?int, exit: ?int, signal: ?int, message: ?string)

      # Starts a getty of the machine's on a terminal of its own, which the first reply passes; it ends when the
      # connection is closed
      method Login(terminal: ?TerminalSize) -> (terminal: ?int, exit: ?int, signal: ?int, message: ?string)

      # It did not work; the message is one line for the operator, the code an exit code
      error Failed (message: string, code: int)
      """)
}
