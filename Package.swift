// swift-tools-version: 6.2
import PackageDescription

// The list of targets is the architecture: each is a room with one duty, and may import only what is named here.
// docs/ARCHITECTURE.md walks through them.

let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
]

// A single search for a text in a text by the library of regular expressions would link all of it into each program,
// an eighth of the stage, which is copied at every start.
let shipped: [SwiftSetting] =
  strict + [.unsafeFlags(["-Xfrontend", "-disable-implicit-string-processing-module-import"])]

// Symbols are of no use to an operator. Relocating itself is most of what a Swift program does at its start: packed
// relocations (glibc 2.36), and no symbols for plug-ins that there are none of, make that shorter.
let lean: [LinkerSetting] = [
  .unsafeFlags([
    "-use-ld=lld", "-Xlinker", "-s", "-Xlinker", "--as-needed", "-Xlinker", "--no-export-dynamic",
    "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs",
  ])
]

// With no library to be found at the start, and nothing to be relocated.
let standalone: [SwiftSetting] = [.unsafeFlags(["-static-executable"])]
let alone: [LinkerSetting] = [.unsafeFlags(["-static-executable", "-Xlinker", "-s"])]
// hengectl only where it is shipped: a debug build would be linked with all of FoundationEssentials, which wants more.
let shippedAlone: [SwiftSetting] = [.unsafeFlags(["-static-executable"], .when(configuration: .release))]
let linkedAlone: [LinkerSetting] = [
  .unsafeFlags(["-static-executable", "-Xlinker", "-s"], .when(configuration: .release))
]

let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
  name: "henge",
  products: [
    .library(name: "Henge", targets: ["MachineManager"]),
    .executable(name: "hengectl", targets: ["hengectl"]),
    .executable(name: "henge-supervisor", targets: ["henge-supervisor"]),
    .executable(name: "henge-import", targets: ["henge-import"]),
    .executable(name: "henge-stage", targets: ["henge-stage"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
  ],
  targets: [
    // C libraries: a module map and a header each.
    .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
    .systemLibrary(name: "CLibcap", pkgConfig: "libcap", providers: [.apt(["libcap-dev"])]),
    .systemLibrary(name: "CLibmount", pkgConfig: "mount", providers: [.apt(["libmount-dev"])]),
    .systemLibrary(name: "CLibarchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
    .target(name: "CLinux", cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),

    // The kernel and systemd, knowing nothing of machines.
    .target(name: "Linux", dependencies: ["CLinux", "CLibcap", system], swiftSettings: shipped),
    .target(name: "Rootless", dependencies: ["CLinux", "Linux"], swiftSettings: shipped),
    .target(name: "Systemd", dependencies: ["CLinux", "CSystemd"], swiftSettings: shipped),
    .target(name: "Varlink", dependencies: ["Linux"], swiftSettings: shipped),

    // Text to data.
    .target(name: "MachineSpec", swiftSettings: shipped),
    .target(name: "StageProtocol", swiftSettings: shipped),
    .target(name: "MachinePlan", dependencies: ["MachineSpec", "StageProtocol"], swiftSettings: shipped),

    // What is on disk.
    .target(name: "Images", dependencies: ["CLinux", "Linux", "MachineSpec", system], swiftSettings: shipped),
    .target(name: "TreeStream", dependencies: ["CLinux", "Images", "Linux", system], swiftSettings: shipped),
    .target(
      name: "Archive", dependencies: ["CLibarchive", "CLinux", "Images", "Linux", "MachineSpec", "TreeStream", system],
      swiftSettings: shipped),
    .target(
      name: "MachineStore", dependencies: ["CLinux", "Images", "Linux", "MachineSpec", "Varlink", system],
      swiftSettings: shipped),

    // Processes.
    .target(
      name: "Network",
      dependencies: ["CLinux", "Linux", "MachinePlan", "MachineSpec", "StageProtocol", "Systemd", "Varlink", system],
      swiftSettings: shipped),
    .target(
      name: "MachineRuntime",
      dependencies: [
        "CLibmount", "CLinux", "Linux", "MachinePlan", "MachineSpec", "MachineStore", "Network", "StageProtocol",
        "Systemd",
        "Varlink", logging, system,
      ], swiftSettings: shipped),
    .target(
      name: "MachineManager",
      dependencies: ["CLinux", "Images", "Linux", "MachineSpec", "MachineStore", "Rootless", "Varlink", system],
      swiftSettings: shipped),

    // Programs: argument parsing and wiring only.
    .executableTarget(
      name: "hengectl",
      dependencies: [
        "CLinux", "MachineManager", "Images", "Linux", "MachineSpec", "MachineStore", "Rootless", "Varlink", arguments,
      ],
      swiftSettings: shipped + shippedAlone, linkerSettings: linkedAlone),
    .executableTarget(
      name: "henge-supervisor",
      dependencies: ["MachineRuntime", "MachineSpec", "MachineStore", "Linux", "Rootless", logging],
      swiftSettings: shipped, linkerSettings: lean),
    .executableTarget(
      name: "henge-import", dependencies: ["Archive", "CLinux", "Images", "Linux", "MachineSpec", "TreeStream"],
      swiftSettings: shipped,
      linkerSettings: lean),
    // Fully static: it runs between the host's root file system and the machine's, and needs a library from neither.
    .executableTarget(
      name: "henge-stage", dependencies: ["CLinux", "Images", "Linux", "StageProtocol", "TreeStream"],
      swiftSettings: shipped + standalone, linkerSettings: alone),

    .testTarget(name: "LinuxTests", dependencies: ["Linux", system], swiftSettings: strict),
    .testTarget(name: "RootlessTests", dependencies: ["Linux", "Rootless"], swiftSettings: strict),
    .testTarget(name: "SystemdTests", dependencies: ["Systemd"], swiftSettings: strict),
    .testTarget(name: "VarlinkTests", dependencies: ["Varlink"], swiftSettings: strict),
    .testTarget(name: "MachineSpecTests", dependencies: ["MachineSpec"], swiftSettings: strict),
    .testTarget(name: "StageProtocolTests", dependencies: ["StageProtocol"], swiftSettings: strict),
    .testTarget(
      name: "MachinePlanTests", dependencies: ["MachinePlan", "MachineSpec", "StageProtocol"], swiftSettings: strict),
    .testTarget(name: "MachineRuntimeTests", dependencies: ["MachineRuntime"], swiftSettings: strict),
    .testTarget(
      name: "ImagesTests", dependencies: ["Archive", "CLinux", "Images", "Linux", "MachineSpec", system],
      swiftSettings: strict),
    .testTarget(
      name: "TreeStreamTests", dependencies: ["CLinux", "Linux", "TreeStream", system], swiftSettings: strict),
    .testTarget(
      name: "MachineStoreTests", dependencies: ["Linux", "MachineSpec", "MachineStore", "Varlink", system],
      swiftSettings: strict),
    // Drives the built programs as an operator does, and looks at what the host shows.
    .testTarget(name: "IntegrationTests", dependencies: ["Linux", "Varlink", system], swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)
