# Speaks TLS in front of the API server of the tests, which does not, as a control plane's load balancer would:
# front.py PORT CERTIFICATE KEY SERVER SERVER-PORT
import socket
import ssl
import sys
import threading

port, certificate, key, server, server_port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    # Both ways end together: a watch has nothing more to say when its reader is gone.
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    try:
        inside = context.wrap_socket(client, server_side=True)
        behind = socket.create_connection((server, int(server_port)))
    except OSError:
        client.close()
        return
    threading.Thread(target=copy, args=(inside, behind), daemon=True).start()
    copy(behind, inside)


listener = socket.create_server(("127.0.0.1", int(port)))
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
