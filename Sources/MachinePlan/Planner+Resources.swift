import MachineSpec

extension ResourcesSection {
  /// The keys that are set and the controller of control groups that each needs.
  public var controllersNeeded: [(key: String, controller: String)] {
    var needed: [(String, String)] = []
    func need(_ isSet: Bool, _ key: String, _ controller: String) {
      if isSet { needed.append((key, controller)) }
    }
    need(memoryMax != nil, "MemoryMax", "memory")
    need(memoryHigh != nil, "MemoryHigh", "memory")
    need(memoryLow != nil, "MemoryLow", "memory")
    need(memoryMin != nil, "MemoryMin", "memory")
    need(memorySwapMax != nil, "MemorySwapMax", "memory")
    need(oomPolicy == .kill || oomPolicy == .stop, "OOMPolicy", "memory")
    need(cpuQuota != nil, "CPUQuota", "cpu")
    need(cpuWeight != nil, "CPUWeight", "cpu")
    need(allowedCPUs != CPUSet(), "AllowedCPUs", "cpuset")
    need(ioWeight != nil, "IOWeight", "io")
    need(!ioReadBandwidthMax.isEmpty, "IOReadBandwidthMax", "io")
    need(!ioWriteBandwidthMax.isEmpty, "IOWriteBandwidthMax", "io")
    need(!ioReadIOPSMax.isEmpty, "IOReadIOPSMax", "io")
    need(!ioWriteIOPSMax.isEmpty, "IOWriteIOPSMax", "io")
    need(tasksMax != nil, "TasksMax", "pids")
    need(autoScale(of: .memoryHigh) != nil, "AutoScale", "memory")
    need(autoScale(of: .cpuQuota) != nil, "AutoScale", "cpu")
    return needed
  }
}
