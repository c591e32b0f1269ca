import Linux
import StageProtocol

func run(_ request: RelayRequest, userNamespace: UserNamespace, channel: Channel) throws(Failure) {
}
