# A shell for one sandbox's daemon, by SSH or in a browser: the docker command, sshd and ttyd.
# BASE has the docker command: docker:cli (Alpine), or Debian with docker.io.
ARG BASE=docker:cli
FROM ${BASE}
RUN if command -v apk >/dev/null; then apk add --no-cache bash openssh-server ttyd; \
    else apt-get update -qq && apt-get install -y -qq --no-install-recommends bash openssh-server ttyd && \
        rm -rf /var/lib/apt/lists; fi
COPY console.sh /usr/local/bin/wyolo-console
EXPOSE 2222 7681
ENTRYPOINT ["sh", "/usr/local/bin/wyolo-console"]
