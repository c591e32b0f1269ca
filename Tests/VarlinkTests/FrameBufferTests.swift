import Testing
import Varlink

@Suite struct FrameBufferTests {
  @Test func messagesAreCutAtNULWhateverThePieces() throws {
    let stream: [UInt8] = Array("one\0\0three\0fo".utf8)
    for size in 1...stream.count {
      var buffer = FrameBuffer()
      var frames: [String] = []
      for start in stride(from: 0, to: stream.count, by: size) {
        buffer.append(stream[start..<min(start + size, stream.count)])
        while let frame = try buffer.next() { frames.append(String(decoding: frame, as: UTF8.self)) }
      }
      #expect(frames == ["one", "", "three"])
      #expect(buffer.count == 2)
    }
  }

  @Test func theLimitHoldsWithAndWithoutAnEnd() throws {
    var buffer = FrameBuffer(limit: 4)
    buffer.append([1, 2, 3, 4, 0])
    #expect(try buffer.next() == [1, 2, 3, 4])
    buffer.append([1, 2, 3, 4])
    #expect(try buffer.next() == nil)
    buffer.append([5])
    #expect(throws: FrameBuffer.TooLong.self) { try buffer.next() }
    #expect(throws: FrameBuffer.TooLong.self) { try buffer.next() }
    var other = FrameBuffer(limit: 4)
    other.append([1, 2, 3, 4, 5, 0])
    #expect(throws: FrameBuffer.TooLong.self) { try other.next() }
    #expect(throws: FrameBuffer.TooLong.self) { try other.next() }
  }

  @Test func manySmallPiecesOfOneMessageStayFast() throws {
    var buffer = FrameBuffer()
    for _ in 0..<(1 << 20) {
      buffer.append(CollectionOfOne(0x20))
      #expect(try buffer.next() == nil)
    }
    buffer.append([0])
    #expect(try buffer.next()?.count == 1 << 20)
  }
}
