# ROS 2 Jazzy with the package built and its Python environment:
#   docker build -t sqap_vla_ros . && docker run --rm -it --net=host sqap_vla_ros
FROM ros:jazzy

# Offscreen rendering for the simulated arm; everything else comes from package.xml by rosdep.
RUN apt-get update && apt-get install -y --no-install-recommends \
        python3-venv libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglx-mesa0 libosmesa6 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ws
COPY . src/sqap_vla_ros
RUN . /opt/ros/jazzy/setup.sh \
    && apt-get update && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths src --ignore-src --rosdistro jazzy -y \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE \
    && .venv/bin/pip install --no-cache-dir \
        -r src/sqap_vla_ros/requirements/torch.txt \
        -r src/sqap_vla_ros/requirements/runtime.txt \
        -c src/sqap_vla_ros/requirements/constraints-numpy-1.26.txt
RUN . /opt/ros/jazzy/setup.sh && . .venv/bin/activate \
    && colcon build --packages-select sqap_vla_ros

RUN printf '#!/bin/sh\n. /opt/ros/jazzy/setup.sh\n. /ws/.venv/bin/activate\n. /ws/install/setup.sh\nexec "$@"\n' \
        > /entrypoint.sh && chmod +x /entrypoint.sh
ENV MUJOCO_GL=egl
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "sqap_vla_ros", "sim.launch.py"]
