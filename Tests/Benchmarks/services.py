"""What an operator's servers lose behind henge's network: pgbench against PostgreSQL, wrk against nginx.

The same servers and clients, of one image, stand bare in the lab and in a machine. Inward, the client is outside, and
the server on the host or in a machine whose port the host publishes: who accepts there is given the host's socket, or
has it from the start, or a relay carries what comes. Outward, the server is outside, and the client on the host or in
a machine with HandOff=yes. PostgreSQL takes no socket that is passed, nginx does (its variable NGINX).
"""

import random
import re
import subprocess

from figures import paired, say, spread
from host import Failed, call
from lab import HOST, OUTSIDE, Way, wait_for

NAME, RELAYED = "bench-services", "bench-services-relayed"
POSTGRES, HTTP, PASSED = 5432, 8080, 18081
PG = "/usr/lib/postgresql/17"
DATA = "/var/lib/postgresql/17"
# For pgbench, which takes whole ones, and for wrk.
SECONDS = 2, 1
# What wrk asks for. As it comes, nginx opens the file anew for each answer: an overlay's work, and no network's.
OPENED = "wrk, file opened each time"
PAGES = {"wrk": "/kept/index.html", OPENED: "/index.html"}
GOALS = {"pgbench": 0.95, **dict.fromkeys(PAGES, 0.85)}

# In the bare tree and in the machine alike. TLS would hide what the way costs behind its own work.
SETUP = f"""
cd /etc/postgresql/17/main
printf "listen_addresses = '*'\\nssl = off\\n" >conf.d/bench.conf
echo 'host all all all trust' >>pg_hba.conf
cat >/etc/nginx/bench.conf <<'END'
worker_processes 2;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  server {{
    listen [::]:{HTTP} ipv6only=off;
    include /etc/nginx/bench-passed[.]conf;
    root /usr/share/nginx/html;
    location /kept/ {{
      alias /usr/share/nginx/html/;
      open_file_cache max=16;
    }}
  }}
}}
END
"""
# nginx looks for what it inherited among its own addresses: of the host's socket it has to know where that listens.
SETUP_MACHINE = SETUP + f"""
echo 'listen [::]:{PASSED} ipv6only=off;' >/etc/nginx/bench-passed.conf
cd /etc/systemd/system
cat >bench-nginx.socket <<'END'
[Socket]
ListenStream={PASSED}
[Install]
WantedBy=sockets.target
END
cat >bench-nginx.service <<'END'
[Service]
Environment=NGINX=3;
NonBlocking=yes
ExecStart=/usr/sbin/nginx -c /etc/nginx/bench.conf -g 'daemon off; pid /run/bench-nginx.pid;'
[Install]
WantedBy=multi-user.target
END
systemctl disable nginx.service
systemctl enable bench-nginx.socket bench-nginx.service
"""


class Client(Way):
  """A way for pgbench and wrk: what each did in a second."""

  def __init__(self, name, client, address, postgres=POSTGRES, http=HTTP):
    super().__init__(name, client, address, figures=[])
    self.postgres, self.http = postgres, http

  def take(self, figure):
    if figure == "pgbench":
      said = self.run([f"{PG}/bin/pgbench", "-n", "-S", "-c", "4", "-j", "2", "-T", str(SECONDS[0]),
                       *database(self.address, self.postgres)])
    else:
      said = self.run(["wrk", "-t2", "-c64", f"-d{SECONDS[1]}s", f"http://{self.address}:{self.http}{PAGES[figure]}"])
    wrong = re.search(r"Non-2xx.*|Socket errors.*", said)
    number = re.search(r"^(?:tps =|Requests/sec:) *([0-9.]+)", said, re.M)
    if wrong or not number:
      raise Failed(wrong.group() if wrong else "it told no rate")
    return float(number.group(1))


def services(lab, machines, tree, tar, report, passes):
  call("chroot", tree.root, "sh", "-ec", SETUP)
  call("cp", "-a", f"{tree.root}{DATA}/main", f"{tree.root}{DATA}/other")
  for place, address, data in ((lab.host, HOST, "main"), (lab.outside, OUTSIDE, "other")):
    serve(lab, tree, place, data)
    fill(lab, tree, address, POSTGRES)
  machines.add(NAME, tar)
  machines.make(NAME, NAME, "HandOff=yes", f"Port=15432:{POSTGRES}", f"Port=18080:{HTTP}",
                f"Port={PASSED}:{PASSED}:bench-nginx.socket")
  # Its nginx makes its own sockets: bench-nginx.socket is there in vain.
  machines.make(NAME, RELAYED, f"Port=25432:{POSTGRES}", f"Port=28080:{HTTP}")
  for name, port in ((NAME, 15432), (RELAYED, 25432)):
    machines.ctl("start", name)
    call(*machines.command(name, "sh", "-ec", SETUP_MACHINE))
    machines.ctl("reboot", name)
    fill(lab, tree, HOST, port)

  plain = ["env", "PGSSLMODE=disable"]
  bare = lambda place: ["setsid", "--wait", *tree.at(place, *plain)]
  on_host = Client("server on the host", bare(lab.outside), HOST)
  from_host = Client("client on the host", bare(lab.host), OUTSIDE)
  relayed = Client("server in a machine, by relay", on_host.client, HOST, 25432, 28080)
  given = Client("server in a machine, by hand-off", on_host.client, HOST, 15432, 18080)
  passed = Client("server in a machine, by LISTEN_FDS", on_host.client, HOST, None, PASSED)
  handed = Client("client in a machine, by hand-off", machines.command(NAME, *plain), OUTSIDE)
  groups = [("pgbench", on_host, [given, relayed]), ("wrk", on_host, [given, relayed, passed]),
            (OPENED, on_host, [given, passed]),
            ("pgbench", from_host, [handed]), ("wrk", from_host, [handed])]
  taken = [{client: [] for client in [bare, *others]} for _, bare, others in groups]
  for number in range(passes):
    for (program, bare, others), rates in zip(groups, taken):
      # One of a group right after the other: what slows the host for seconds slows both.
      for client in random.Random(number).sample([bare, *others], len(others) + 1):
        try:
          rates[client].append(client.take(program))
        except Failed as error:
          rates[client].append(None)
          report.notes.append(f"{program}, {client.name}: pass {number + 1}: {error}")
    say(f"services, pass {number + 1}/{passes}")
  if not machines.handed_over(NAME) or not machines.handed_in(NAME):
    report.notes.append(f"network: {NAME}: not handed over what should have been")
  for (program, bare, others), rates in zip(groups, taken):
    for client in others:
      told = f"network, {program}: {client.name} / {bare.name}"
      if any(one and other for one, other in zip(rates[client], rates[bare])):
        ratio, within = paired(rates[client], rates[bare])
        detail = " / ".join(spread([rate for rate in rates[way] if rate], "per s") for way in (client, bare))
        report.add(told, ratio, "", None, detail, within=within, least=GOALS[program])
      else:
        report.failed(told, "no round of both")


def serve(lab, tree, place, data):
  """Both servers in the network namespace of a process."""
  # A namespace for what System V leaves behind when a process is killed.
  start = lambda *words: lab.spawn(tree.at(place, *words), stdout=subprocess.DEVNULL, start_new_session=True)
  start("unshare", "--ipc", "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", f"{PG}/bin/postgres",
        "-D", f"{DATA}/{data}", "-c", "config_file=/etc/postgresql/17/main/postgresql.conf",
        "-c", f"data_directory={DATA}/{data}", "-c", "unix_socket_directories=", "-c", "external_pid_file=")
  start("nginx", "-c", "/etc/nginx/bench.conf", "-g", f"daemon off; pid /tmp/nginx-{data}.pid;")


def fill(lab, tree, address, port):
  """The tables of pgbench, once the server is there; a megabyte or so for each branch fits into its memory."""
  at = tree.at(lab.outside, "env", "PGSSLMODE=disable")
  wait_for(lambda: call(*at, f"{PG}/bin/pg_isready", *database(address, port)), "no PostgreSQL", 30)
  call(*at, f"{PG}/bin/pgbench", "-i", "-q", "-s", "4", *database(address, port))


def database(address, port):
  return ["-h", address, "-p", str(port), "-U", "postgres", "-d", "postgres"]
