# The app as a container, for Functions on Container Apps or Premium and for docker-compose.yml. Flex Consumption cannot run images.
# By its tag, not by digest: Microsoft puts fixes of the host under it each month, and a digest would miss them.
FROM mcr.microsoft.com/azure-functions/python:4-python3.13

# checkov:skip=CKV_DOCKER_3: Microsoft's image runs the host as root, on port 80: its own folders belong to root.
ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    AzureWebJobsDisableHomepage=true \
    PYTHON_THREADPOOL_THREAD_COUNT=48 \
    FUNCTIONS_REQUEST_BODY_SIZE_LIMIT=2097152

COPY requirements.txt /
RUN pip install --no-cache-dir --requirement /requirements.txt

WORKDIR /home/site/wwwroot
COPY host.json function_app.py ./
COPY functions functions
COPY gpulaunch gpulaunch
COPY shared shared

# Host and worker start within 20 s; the app's first response creates the table and the queues.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1/api/health', timeout=8)"]
